"""The one place that imports torchaudio.

The wheel of torchaudio on the package index is linked against CUDA. With a CPU-only build of torch its compiled
extension can't be loaded, and `import torchaudio` raises `OSError`. Its Python part (models, transforms, most of
`functional`) needs no extension. After `install`, every `import torchaudio` in this process falls back to that part.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import ModuleType
from typing import Any, NoReturn

NAME = "torchaudio"
EXTENSION = "torchaudio._extension"


def load_torchaudio() -> ModuleType:
    """The package `torchaudio`, without its compiled extension if that can't be loaded.

    Raises:
        ImportError: torchaudio is not installed, or its Python part fails, too.
    """
    install()
    return importlib.import_module(NAME)


def install() -> None:
    """Makes `import torchaudio` fall back to the Python part. Imports nothing itself, and may be called repeatedly."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds torchaudio as Python does, and replaces its loader by one with the fallback."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if fullname != NAME:
            return None
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next(filter(None, (finder.find_spec(fullname, None) for finder in others)), None)
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return spec
        spec.loader = _Loader(fullname, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        names = dict(vars(module))
        try:
            super().exec_module(module)
        except OSError as error:
            _forget_parts()
            vars(module).clear()
            vars(module).update(names)
            sys.modules[EXTENSION] = _NoExtension(EXTENSION)
            try:
                super().exec_module(module)
            except Exception:
                _forget_parts()
                raise error  # noqa: B904 - the first failure is the cause
            _warn(error)


class _NoExtension(ModuleType):
    """Replaces `torchaudio._extension` and reports every part of it as unavailable."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_IS_") or name.endswith("_AVAILABLE"):
            return False
        if name.startswith("fail_if_no_"):
            return _refusing
        if name.startswith("lazy_import_"):
            return _refuse
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


def _refusing(function: Callable[..., Any]) -> Callable[..., NoReturn]:
    """Decorates a function that needs the compiled extension."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError(
            f"torchaudio's `{function.__name__}` needs its compiled extension, which can't be loaded here: "
            "install a torchaudio that is built for this torch"
        )

    return refuse


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("torchaudio's compiled extension can't be loaded here")


def _forget_parts() -> None:
    for name in list(sys.modules):
        if name.startswith(f"{NAME}."):
            del sys.modules[name]


def _warn(error: OSError) -> None:
    from audiozen_core.logging import get_logger

    cause = error.__cause__ or error
    get_logger().warning("torchaudio is used without its compiled extension, which can't be loaded", reason=str(cause))
