"""Makes `import torchaudio` work with a CPU-only build of torch.

The torchaudio wheel on the package index is linked against CUDA. With a CPU-only build of torch, its compiled extension
can't be loaded, and `import torchaudio` raises `OSError`. The Python part of torchaudio (models, transforms, most of
`functional`) does not need the extension. After `install`, an extension that can't be loaded does not raise an error.
Instead, the module `torchaudio._extension` reports all parts of the extension as unavailable.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any, NoReturn

EXTENSION = "torchaudio._extension"


def install() -> None:
    """Installs the fallback for this process. Imports neither torch nor torchaudio, and may be called repeatedly."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds `torchaudio._extension` as Python does, and replaces the module's loader by a loader with the fallback."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname == EXTENSION else None
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        names = dict(vars(module))
        try:
            super().exec_module(module)
        except OSError as error:
            # Remove the names that the module defined before the error, because these names may mark parts as
            # available.
            vars(module).clear()
            vars(module).update(names, __getattr__=_unavailable)
            _warn(error)


def _unavailable(name: str) -> Any:
    """Returns an attribute of `torchaudio._extension`, with the value that it has if the extension is missing."""
    if name.startswith("_IS_") or name.endswith("_AVAILABLE"):
        return False
    if name.startswith("fail_if_no_"):
        return _make_unavailable
    if name.startswith("lazy_import_"):
        return _raise_unavailable
    raise AttributeError(f"module {EXTENSION!r} has no attribute {name!r}")


def _make_unavailable(function: Callable[..., Any]) -> Callable[..., NoReturn]:
    """Replaces a function that needs the compiled extension by a function that raises an error."""

    def unavailable(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError(
            f"torchaudio's `{function.__name__}` needs its compiled extension, which can't be loaded here: "
            "install a torchaudio that is built for this torch"
        )

    return unavailable


def _raise_unavailable(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("torchaudio's compiled extension can't be loaded here")


def _warn(error: OSError) -> None:
    from audiozen_core.logging import get_logger

    cause = error.__cause__ or error
    get_logger().warning("torchaudio is used without its compiled extension, which can't be loaded", reason=str(cause))
