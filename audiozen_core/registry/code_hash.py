"""Computes a hash of the code that a result depends on, so that a later command knows whether it would be the same."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType

from audiozen_core import __version__
from audiozen_core.registry.provided_modules import distributions_with, version_of
from audiozen_core.registry.scope import RESERVED, ImportScope

_CORE, _COMPONENTS = "audiozen_core", "audiozen_plugins"
# Upgrades of these change the last digits of a result only.
_LEFT_OUT = frozenset({*sys.stdlib_module_names, "torch", "numpy", "audiozen"}) - {"__main__"}


def code_hash(
    objects: Iterable[object], *, rooms: Collection[str], packages: Collection[str] = (), own_folders: bool = True
) -> str:
    """Returns a hash of the code of classes and functions, and of the versions of the packages that this code imports.

    The hash covers all modules in the folders of an object and of its base classes, because it may call functions of
    other modules. It also covers the folders of the modules of the same package that these modules import. Of other
    packages, the hash covers the version; of Python, torch and NumPy, nothing.

    Args:
        objects: the classes and functions. Their modules must have been imported.
        rooms: the folders of `audiozen_core` that the result depends on, such as `audio`.
        packages: further top-level modules whose versions the result depends on.
        own_folders: whether the folders of the open import scope count, too. Otherwise, only the modules in them count
            that the objects use, because such a folder may have any other code.
    """
    scope = ImportScope.current()
    modules, imported = _modules_of(objects, scope)
    core = Path(__file__).parent.parent
    # The names do not depend on where a package is installed.
    files = {path: f"{_CORE}.{room}" for room in rooms for path in (core / room).glob("*.py")}
    for module in modules:
        file = Path(str(module.__file__))
        alone = not own_folders and scope is not None and scope.is_local(module.__name__)
        files |= dict.fromkeys([file] if alone else file.parent.glob("*.py"), str(module.__package__))
    digest = hashlib.blake2b(__version__.encode(), digest_size=16)
    for name in sorted({*imported, *packages}):
        digest.update(f"{name} {_version(name)}\n".encode())
    for name, content in sorted((f"{package}/{path.name}", path.read_bytes()) for path, package in files.items()):
        digest.update(name.encode("utf-8", "surrogateescape") + content)
    return digest.hexdigest()


def module_names(thing: object) -> Iterator[str]:
    """Yields the names of the modules that define a function, or a class and its base classes."""
    for each in thing.__mro__ if isinstance(thing, type) else (thing,):
        name = getattr(each, "__module__", None)
        if isinstance(name, str) and name.partition(".")[0] not in _LEFT_OUT:
            yield name


def _modules_of(objects: Iterable[object], scope: ImportScope | None) -> tuple[list[ModuleType], set[str]]:
    """Returns the modules whose files count, and the top-level modules whose versions count."""
    found: list[ModuleType] = []
    imported: set[str] = set()
    waiting = list(dict.fromkeys(name for each in objects for name in module_names(each)))
    seen = set(waiting)
    while waiting:
        name = waiting.pop()
        top, module = name.partition(".")[0], sys.modules.get(name)
        if module is None:
            continue
        if top in RESERVED - {_CORE, _COMPONENTS, "__main__"}:  # such as torchaudio
            imported.add(top)
            continue
        if getattr(module, "__file__", None):  # a module at the Python prompt has no file
            found.append(module)
        if top == _CORE:  # `rooms` says which parts of the core count
            continue
        for other in _names_in(module) - seen:
            other_top = other.partition(".")[0]
            if other_top in (top, _COMPONENTS) or (other_top not in RESERVED and scope and scope.is_local(other)):
                seen.add(other)
                waiting.append(other)
            elif other_top not in _LEFT_OUT | {_CORE}:
                imported.add(other_top)
    installed = (module.__name__ for module in found if not (scope and scope.is_local(module.__name__)))
    return found, imported | {name.partition(".")[0] for name in installed} - {_CORE, "__main__"}


def _names_in(module: ModuleType) -> set[str]:
    """Returns the names of the modules that a module has imported, or from which it has classes and functions."""
    values = list(vars(module).values())
    names = {value.__name__ for value in values if isinstance(value, ModuleType)}
    names |= {value.__module__ for value in values if isinstance(value, type | FunctionType)}
    return {name for name in names if isinstance(name, str) and name.partition(".")[0] not in _LEFT_OUT}


def _version(module: str) -> str:
    # Most distributions have the name of their module. A search among all of them takes long.
    return version_of(module) or " ".join(f"{name} {version_of(name)}" for name in distributions_with(module))
