"""Imports the public names of a module when they are first used.

Each module `x.py` of this package has a stub `x.pyi` beside it. A line of the stub gives a public name and the module
that defines it:

    from audiozen_plugins.loss.si_snr import SiSnrLoss as SiSnrLoss

Type checkers read the stub, and `lazy_names` reads it at run time. So each public name is written only once, and type
checkers see the same names as Python.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def lazy_names(module: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Reads the stub of a module.

    Args:
        module: the `__name__` of the module.
        file: its `__file__`.

    Returns:
        `__getattr__`, `__dir__` and `__all__` for the module. Sub-modules are attributes, but are not in `__all__`.
    """
    names, modules = _read_stub(Path(file).with_suffix(".pyi"))

    # The result is not stored in the module, because a test may replace a name in the module that defines it, and this
    # module must then return the replacement. A second look-up is cheap.
    def get_name(name: str) -> Any:
        if name in names:
            return getattr(import_module(names[name]), name)
        if name in modules:
            return import_module(f"{module}.{name}")
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    def list_names() -> list[str]:
        return sorted({*names, *modules})

    return get_name, list_names, sorted(names)


def _read_stub(stub: Path) -> tuple[dict[str, str], list[str]]:
    """Returns the public names with the modules that define them, and the sub-modules."""
    names: dict[str, str] = {}
    modules: list[str] = []
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if node.module:
                    names[alias.name] = node.module
                else:
                    modules.append(alias.name)
    return names, modules
