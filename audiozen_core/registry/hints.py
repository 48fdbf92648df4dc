"""Creates the errors for dotted paths that do not exist, and suggests similar names that exist."""

from __future__ import annotations

import ast
import contextlib
import inspect
import pkgutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from audiozen_core.diagnostics import codes
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest, similar_names
from audiozen_core.diagnostics.synonyms import fold
from audiozen_core.kinds import kind_of
from audiozen_core.registry.errors import PathError
from audiozen_core.registry.importing import hidden_note
from audiozen_core.registry.scope import ImportScope

_SHOWN_NAMES = 8


@dataclass(eq=False)
class MissingNameError(Exception):
    """A name in a dotted path does not exist.

    Attributes:
        prefix: the part of the path before the name; "" if the name is the first part.
        name: the name that does not exist.
        owner: the object that `prefix` names; None if the name should be a module.
        rest: the names in the path after the missing name.
    """

    prefix: str
    name: str
    owner: Any
    rest: list[str]


def missing_name_error(missing: MissingNameError, path: str, section: str | None) -> PathError:
    """Returns the error for a path with a name that does not exist.

    Args:
        missing: the missing name.
        path: the path in the TOML file; "" for the entry point of an installed component, which the user can't change.
        section: the section of the TOML file that contains the path, if any.
    """
    found, name, owner = missing.prefix, missing.name, missing.owner
    scope = ImportScope.current()
    hidden = scope.hidden(found or name) if scope else None
    notes = [hidden_note(hidden.name)] if hidden else []
    known = _names_below(owner) if found else _top_level_names()
    names = [near for near in similar_names(name, known) if missing.rest or _is_alike(name, near)]
    suggestion = None
    if path:
        possible = [[near, *missing.rest] for near in names]
        possible += [missing.rest[-1:]] * (found != "" and missing.rest[-1:] != [] and missing.rest[-1] in known)
        existing = (other for other in possible if _exists(owner, other))
        suggestion = _name_in_torch(path.rpartition(".")[2], section)
        suggestion = suggestion or next((".".join(filter(None, [found, *other])) for other in existing), None)
    # Do not suggest an installed top-level module, because users rarely mean one.
    likely = [near for near in names if found or (scope and near in scope.local_modules())]
    label = did_you_mean(likely[0]) if likely and not suggestion else ""
    code, remedy = codes.NO_MODULE, ""
    if owner is None:
        message = f"the module `{'.'.join(filter(None, [found, name]))}` does not exist"
        if path:
            folders = f" (looked in {' and '.join(scope.dirs)} first)" if scope else ""
            remedy = (
                f"install the package that has the module, or put `{name}.py` in the folder of the TOML file{folders}"
            )
    else:
        is_module, is_package = isinstance(owner, ModuleType), bool(_path_of(owner))
        kind = "package" if is_package else "module" if is_module else "class" if inspect.isclass(owner) else "object"
        message = f"the {kind} `{found}` has no `{name}`"
        if not (is_package and missing.rest):
            code = codes.NO_ATTRIBUTE
        if is_module and not names:
            notes += _own_names_note(found, owner)
    return PathError(code, message, suggestion=suggestion, label=label, notes=notes, remedy=remedy)


def module_error(path: str, module: ModuleType) -> PathError:
    """Returns the error for a path that names a module."""
    names = _own_names(module)
    near = nearest(path.rpartition(".")[2], names) or (names[0] if len(names) == 1 else None)
    return PathError(
        codes.IS_MODULE,
        f"`{path}` is a module; a path names a class or a function in a module",
        suggestion=f"{path}.{near}" if near else None,
        notes=_own_names_note(path, module),
        remedy=f"write `{path}.` and the name of the class",
    )


def earlier_use(name: str, requirement: str, record: str) -> tuple[str, str]:
    """Returns a note and a remedy for a component or section that does not exist now, but that an earlier run used.

    Args:
        name: the name of the component or section.
        requirement: the requirement for its distribution, such as `acme==1.0`.
        record: the file in which the earlier run recorded the component.
    """
    note = f"note: an earlier run used `{name}` of {requirement.replace('==', ' ')}: {record}"
    return note, f"pip install '{requirement}'"


def unknown_name_hints(error: PathError, path: str, section: str | None) -> PathError:
    """Returns the error for an unknown name, with the dotted path that the user may have meant.

    If an earlier run of the experiment used a component with this name, the error names the component's distribution
    instead.
    """
    scope = ImportScope.current()
    unknown = error.code in (codes.UNKNOWN_NAME, codes.UNKNOWN_DISTRIBUTION)
    if scope and unknown and (recorded := scope.recorded(path)):
        earlier, remedy = earlier_use(path, *recorded)
        return PathError(error.code, error.message, notes=(*error.notes, earlier), remedy=remedy)
    if error.code != codes.UNKNOWN_NAME or ":" in path:
        return error
    suggestion, notes = _name_in_torch(path, section) or error.suggestion, list(error.notes)
    if scope and (file := scope.local_modules().get(path)):
        notes.append(f"note: `{file.name}` next to the TOML file is a module; to use its class, write `{path}.<Class>`")
        if name := _first_class(file if file.is_file() else file / "__init__.py"):
            suggestion = f"{path}.{name}"
    return PathError(error.code, error.message, suggestion=suggestion, notes=notes, remedy=error.remedy)


def _name_in_torch(name: str, section: str | None) -> str | None:
    """Returns the dotted path of the torch class with this name, ignoring case, if the section can use the class."""
    kind = kind_of(section or "")
    if kind is None or not kind.torch_home:
        return None
    with contextlib.suppress(Exception):  # the hint must work before torch is imported, and even if its import fails
        import torch  # noqa: F401
    home = sys.modules.get(kind.torch_home)
    if home is None:
        return None
    classes = [known for known in dir(home) if inspect.isclass(inspect.getattr_static(home, known, None))]
    found = next((known for known in classes if known.lower() == name.lower()), None)
    return f"{home.__name__}.{found}" if found else None


def _is_alike(name: str, near: str) -> bool:
    """Returns whether both names look like classes, both look like functions, or both differ only in case."""
    return name[0].isupper() == near[0].isupper() or fold(name) == fold(near)


def _exists(owner: Any, names: Sequence[str]) -> bool:
    """Returns whether a chain of names exists, starting at an object, or at the top-level modules if `owner` is None.

    Nothing is imported. The names in a module that is not imported yet are read from its source.
    """
    for place, name in enumerate(names):
        if name in _lazy_names(owner):
            return place == len(names) - 1  # names below a lazily imported name are unknown
        following = sys.modules.get(name) if owner is None else inspect.getattr_static(owner, name, None)
        if following is None:
            module = name if owner is None else f"{owner.__name__}.{name}" if name in _submodules(owner) else ""
            spec = PathFinder.find_spec(module, _path_of(owner) or None) if module else None
            return spec is not None and _has_in_source(spec, names[place + 1 :])
        owner = following
    return True


def _has_in_source(spec: ModuleSpec, names: Sequence[str]) -> bool:
    if not names or (spec.origin and names[0] in _top_level_of(Path(spec.origin))):
        return True
    inner = spec.submodule_search_locations
    below = PathFinder.find_spec(f"{spec.name}.{names[0]}", list(inner)) if inner else None
    return below is not None and _has_in_source(below, names[1:])


def _top_level_of(file: Path) -> set[str]:
    """Returns the names that a source file defines or imports at its top level.

    The result includes the names in the module's stub file (`.pyi`), which contains lazily imported names.
    """
    names: set[str] = set()
    for node in [*_statements(file), *_statements(file.with_suffix(".pyi"))]:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def _statements(file: Path) -> list[ast.stmt]:
    """Returns the statements at the top level of a source file; an empty list if the file can't be parsed."""
    try:
        return ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return []


def _names_below(owner: Any) -> list[str]:
    """Returns the public attributes of an object, and the sub-modules of a package."""
    return [name for name in dir(owner) if not name.startswith("_")] + _submodules(owner)


def _top_level_names() -> list[str]:
    """Returns the top-level modules that may contain components, without Python's own modules."""
    found = (module.name for module in pkgutil.iter_modules())
    return ["audiozen", *(name for name in found if name[0] != "_" and name not in sys.stdlib_module_names)]


def _own_names_note(path: str, module: ModuleType) -> list[str]:
    names = _own_names(module)
    more = ", …" if len(names) > _SHOWN_NAMES else ""
    return [f"note: `{path}` has {', '.join(f'`{name}`' for name in names[:_SHOWN_NAMES])}{more}"] if names else []


def _own_names(module: ModuleType) -> list[str]:
    """Returns the public classes and functions that a module or its sub-modules define, or that it imports lazily."""
    prefix = f"{module.__name__}."
    defined = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and f"{value.__module__}.".startswith(prefix)
    ]
    return sorted([*defined, *_lazy_names(module)])


def _lazy_names(module: Any) -> list[str]:
    """Returns the names in `__all__` that the module imports on first use (PEP 562)."""
    names = vars(module) if isinstance(module, ModuleType) else {}
    listed = names.get("__all__", ()) if "__getattr__" in names else ()
    return [name for name in listed if name not in names and not name.startswith("_")]


def _first_class(file: Path) -> str | None:
    """Returns the first public class in a source file, found without importing the file."""
    classes = (node.name for node in _statements(file) if isinstance(node, ast.ClassDef))
    return next((name for name in classes if not name.startswith("_")), None)


def _submodules(package: Any) -> list[str]:
    return [module.name for module in pkgutil.iter_modules(_path_of(package))]


def _path_of(package: Any) -> list[str]:
    return list(getattr(package, "__path__", ())) if isinstance(package, ModuleType) else []
