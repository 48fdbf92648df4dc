"""Computes a hash of the code that a result depends on, so that a later command knows whether it would be the same."""

from __future__ import annotations

import ast
import functools
import hashlib
import sys
from collections.abc import Collection, Iterable, Iterator
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path

from audiozen_core import __version__
from audiozen_core.registry.provided_modules import distributions_with, version_of
from audiozen_core.registry.scope import RESERVED, ImportScope

_CORE, _COMPONENTS, _FACE = "audiozen_core", "audiozen_plugins", "audiozen"
# Upgrades of these change the last digits of a result only, or only what is printed.
_LEFT_OUT = frozenset({*sys.stdlib_module_names, "torch", "triton", "numpy", "rich", "audiozen"}) - {"__main__"}


def code_hash(
    objects: Iterable[object], *, rooms: Collection[str], packages: Collection[str] = (), own_folders: bool = True
) -> str:
    """Returns a hash of the code of classes and functions, and of the versions of the packages that this code imports.

    The hash covers all modules in the folders of an object and of its base classes, because it may call functions of
    other modules. It also covers the folders of the modules of the same package and of AudioZEN's components that these
    modules import, also those that a function imports when it is called. Imports are read from the source, so the hash
    does not depend on what has been imported so far. Of other packages, the hash covers the version; of Python, torch,
    Triton, NumPy and rich, nothing.

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
    for name, file in modules.items():
        alone = not own_folders and scope is not None and scope.is_local(name)
        files |= dict.fromkeys([file] if alone else file.parent.glob("*.py"), _package_of(name, file))
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


def _modules_of(objects: Iterable[object], scope: ImportScope | None) -> tuple[dict[str, Path], set[str]]:
    """Returns the files that count, by the names of their modules, and the top-level modules whose versions count."""
    found: dict[str, Path] = {}
    imported: set[str] = set()
    is_local = functools.cache(lambda top: scope is not None and scope.is_local(top))
    waiting = list(dict.fromkeys(name for each in objects for name in module_names(each)))
    seen = set(waiting)
    while waiting:
        name = waiting.pop()
        top = name.partition(".")[0]
        if top in RESERVED - {_CORE, _COMPONENTS, _FACE, "__main__"}:  # such as torchaudio
            imported.add(top)
            continue
        if top == _FACE:
            others = _behind_stub(name)
        elif (file := _file_of(name)) is None:  # a module at the Python prompt, or a name that is not a module
            continue
        else:
            found[name] = file
            if top == _CORE:  # `rooms` says which parts of the core count
                continue
            others = _imported_by(file, _package_of(name, file))
        for other in others - seen:
            seen.add(other)
            other_top = other.partition(".")[0]
            if other_top in (top, _COMPONENTS, _FACE) or is_local(other_top):
                waiting.append(other)
            elif other_top not in _LEFT_OUT | {_CORE}:
                imported.add(other_top)
    installed = {name.partition(".")[0] for name in found if not is_local(name.partition(".")[0])}
    # Functions may import optional packages. The search for one that is not installed would take long.
    imported = {top for top in imported if sys.modules.get(top) or find_spec(top)}
    return found, imported | installed - {_CORE, "__main__"}


def _file_of(name: str) -> Path | None:
    """Returns the file of a module, also of one that has not been imported; None if no such file exists."""
    package, _, last = name.rpartition(".")
    if (module := sys.modules.get(name)) is not None or not package:
        file = getattr(module, "__file__", None) if module else getattr(find_spec(name), "origin", None)
        return Path(file) if file else None
    files = (Path(folder, *end) for folder in _folders_of(package) for end in ((last, "__init__.py"), (f"{last}.py",)))
    return next((file for file in files if file.is_file()), None)


def _folders_of(package: str) -> list[str | Path]:
    # `importlib.util.find_spec` would import the parents of a package.
    if (module := sys.modules.get(package)) is not None:
        return list(getattr(module, "__path__", ()))
    parent, _, last = package.rpartition(".")
    if parent:
        return [Path(folder, last) for folder in _folders_of(parent)]
    spec = find_spec(package)
    return list(spec.submodule_search_locations or ()) if spec else []


def _package_of(name: str, file: Path) -> str:
    return name if file.name == "__init__.py" else name.rpartition(".")[0]


def _behind_stub(name: str) -> frozenset[str]:
    """Returns the module that defines a name of the package `audiozen`, whose imports are in its stubs."""
    package, _, last = name.rpartition(".")
    file = _file_of(package) if package else None
    names = _imported_by(file.with_suffix(".pyi"), package) if file else ()
    return frozenset(each.rpartition(".")[0] for each in names if each.endswith(f".{last}"))


def _imported_by(file: Path, package: str) -> frozenset[str]:
    """Returns the names that a module imports, also in its functions. Not every name is that of a module."""
    try:
        return _imports_in(file.read_bytes(), package) if file.suffix in (".py", ".pyi") else frozenset()
    except (OSError, SyntaxError, ValueError):  # the file is not one that Python could import
        return frozenset()


@functools.lru_cache(maxsize=1024)
def _imports_in(source: bytes, package: str) -> frozenset[str]:
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:  # `import a.b` makes `a` available, too
                names.update(accumulate(alias.name.split("."), "{}.{}".format))
        elif isinstance(node, ast.ImportFrom):
            # One dot is the package itself, two are its parent.
            parts = package.split(".") if node.level and package else []
            if len(parts) >= node.level:
                home = ".".join([*parts[: len(parts) + 1 - node.level], *filter(None, [node.module])])
                names |= {home, *(f"{home}.{alias.name}" for alias in node.names)}
        else:  # statements only: a walk through all expressions would add a third to the time of parsing
            for field in ("body", "handlers", "orelse", "finalbody", "cases"):
                waiting += getattr(node, field, ())
    return frozenset(names)


def _version(module: str) -> str:
    # Most distributions have the name of their module. A search among all of them takes long.
    return version_of(module) or " ".join(f"{name} {version_of(name)}" for name in distributions_with(module))
