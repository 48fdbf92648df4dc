"""Error messages for dotted paths that do not exist, with similar names and with what exists instead."""

from __future__ import annotations

import ast
import contextlib
import inspect
import pkgutil
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from audiozen_core.diagnostics.suggestions import did_you_mean, similar_names
from audiozen_core.kinds import kind_of
from audiozen_core.registry.errors import PathError
from audiozen_core.registry.importing import hidden_note
from audiozen_core.registry.scope import ImportScope

_SHOWN_NAMES = 8


class MissingNameError(Exception):
    """A name in a dotted path does not exist.

    Args:
        found: the part of the path before it, "" if it is the first name.
        name: the name that does not exist.
        owner: the object that `found` names.
        rest: the part of the path after it.
    """

    def __init__(self, found: str, name: str, owner: Any, rest: str = "") -> None:
        super().__init__(found, name)
        self.found = found
        self.name = name
        self.owner = owner
        self.rest = rest


def missing_name_error(missing: MissingNameError, path: str) -> PathError:
    """The error for a path with a name that does not exist.

    Args:
        missing: the name.
        path: the path as it was written, in which suggestions replace the name; "" for no suggestions.
    """
    scope = ImportScope.current()
    top = missing.found.partition(".")[0] or missing.name
    hidden = scope.hidden(top) if scope else None
    notes = [hidden_note(hidden.name)] if hidden else []
    known = _names_below(missing.owner) if missing.found else _top_level_names()
    names = similar_names(missing.name, known)
    near = (
        [_respelled(path, missing, name) for name in names if _rest_exists(missing.owner, name, missing.rest)]
        if path
        else []
    )
    label = did_you_mean(names[0]) if names and not near else ""
    if not missing.found:
        folders = f" (looked in {' and '.join(scope.dirs)} first)" if scope else ""
        message = f"there is no module `{missing.name}`"
        remedy = f"install the package that has it, or put `{missing.name}.py` beside the TOML file{folders}"
        return PathError("no_module", message, near=near, label=label, notes=notes, remedy=remedy)
    if isinstance(missing.owner, ModuleType) and not names and (own := _own_names(missing.owner)):
        more = ", …" if len(own) > _SHOWN_NAMES else ""
        notes.append(f"note: `{missing.found}` has {', '.join(f'`{name}`' for name in own[:_SHOWN_NAMES])}{more}")
    if missing.owner is None:
        return PathError("no_module", f"there is no module `{missing.found}.{missing.name}`", near=near, notes=notes)
    if missing.rest and _path_of(missing.owner):
        message = f"the package `{missing.found}` has nothing named `{missing.name}`"
        return PathError("no_module", message, near=near, label=label, notes=notes)
    kind = (
        "module" if isinstance(missing.owner, ModuleType) else "class" if isinstance(missing.owner, type) else "object"
    )
    message = f"the {kind} `{missing.found}` has no `{missing.name}`"
    return PathError("no_attribute", message, near=near, label=label, notes=notes)


def module_error(path: str, module: ModuleType) -> PathError:
    """The error for a path that names a module."""
    last = path.rpartition(".")[2]
    own = _own_names(module)
    parent = sys.modules.get(module.__name__.rpartition(".")[0])
    near = [f"{path}.{name}" for name in similar_names(last, own)]
    near += [f"{path[: -len(last)]}{name}" for name in similar_names(last, _own_classes(parent))] if "." in path else []
    if not near and len(own) == 1:
        near = [f"{path}.{own[0]}"]
    more = ", …" if len(own) > _SHOWN_NAMES else ""
    notes = [f"note: it has {', '.join(f'`{name}`' for name in own[:_SHOWN_NAMES])}{more}"] if own else []
    return PathError(
        "is_module",
        f"`{path}` is a module; a path names a class or a function in one",
        near=near,
        notes=notes,
        remedy=f"write `{path}.` and the name of the class",
    )


def unknown_name_hints(error: PathError, path: str, section: str | None) -> PathError:
    """Adds dotted paths that may have been meant to the error for an unknown name."""
    if error.reason != "unknown_name" or ":" in path:
        return error
    near: list[str] = []
    notes = list(error.notes)
    scope = ImportScope.current()
    if scope and (file := scope.local_modules().get(path)):
        near += [f"{path}.{name}" for name in _classes_in_file(file if file.is_file() else file / "__init__.py")]
        notes.append(f"note: `{file.name}` beside the TOML is a module; a path names a class in it, `{path}.<Class>`")
    kind = kind_of(section or "")
    home = kind.torch_home if kind else ""
    if hasattr(sys.modules.get(home), path):
        near.append(f"{home}.{path}")
    return PathError(error.reason, error.message, near=[*near, *error.near], notes=notes, remedy=error.remedy)


def _respelled(path: str, missing: MissingNameError, name: str) -> str:
    """The path as it was written, with the missing name replaced."""
    tail = len(missing.rest) + 1 if missing.rest else 0
    until = len(path) - tail
    return path[: until - len(missing.name)] + name + path[until:]


def _rest_exists(owner: Any, name: str, rest: str) -> bool:
    """Whether the rest of a path exists below a similar name. What is not imported yet is assumed to."""
    if name in _lazy_names(owner):
        return not rest  # what follows is unknown until the name is imported
    target = sys.modules.get(name) if owner is None else inspect.getattr_static(owner, name, None)
    for part in rest.split(".") if rest else ():
        if target is None:
            return True
        following = inspect.getattr_static(target, part, None)
        if following is None:
            return part in _lazy_names(target) or any(
                module.name == part for module in pkgutil.iter_modules(_path_of(target))
            )
        target = following
    return True


def _names_below(owner: Any) -> list[str]:
    """Public attributes of an object, and the sub-modules of a package."""
    names = [name for name in dir(owner) if not name.startswith("_")]
    if isinstance(owner, ModuleType):
        names += [module.name for module in pkgutil.iter_modules(_path_of(owner))]
    return names


def _top_level_names() -> Iterable[str]:
    scope = ImportScope.current()
    local = list(scope.local_modules()) if scope else []
    return [*local, "audiozen", *(module.name for module in pkgutil.iter_modules() if not module.name.startswith("_"))]


def _own_names(module: ModuleType) -> list[str]:
    """The public classes and functions that a module, or a part of a package, defines or imports lazily."""
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
    """The names in `__all__` that the module imports on first use (PEP 562)."""
    names = vars(module) if isinstance(module, ModuleType) else {}
    listed = names.get("__all__", ()) if "__getattr__" in names else ()
    return [name for name in listed if name not in names and not name.startswith("_")]


def _own_classes(module: ModuleType | None) -> list[str]:
    return [name for name in _own_names(module) if inspect.isclass(vars(module).get(name))] if module else []


def _classes_in_file(file: Any) -> list[str]:
    """The public classes that a source file defines, without importing it."""
    with contextlib.suppress(OSError, SyntaxError, ValueError):
        tree = ast.parse(file.read_bytes())
        return [node.name for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    return []


def _path_of(package: Any) -> list[str]:
    return list(getattr(package, "__path__", ())) if isinstance(package, ModuleType) else []
