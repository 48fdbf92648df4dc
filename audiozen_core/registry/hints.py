"""What to say about a dotted path that breaks off: near names, and what there is instead."""

from __future__ import annotations

import ast
import contextlib
import inspect
import pkgutil
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from audiozen_core.diagnostics.suggestions import near_names
from audiozen_core.kinds import kind_of
from audiozen_core.registry.errors import PathError
from audiozen_core.registry.importing import hidden_note
from audiozen_core.registry.scope import ImportScope

_SHOWN_NAMES = 8


class Missing(Exception):  # noqa: N818 - caught where it is raised, never shown
    """A dotted path breaks off.

    Args:
        found: the part that was found, dotted, "" where not even the first name exists.
        name: the next name, which does not exist.
        owner: the object that `found` names.
        rest: what follows the missing name, dotted.
    """

    def __init__(self, found: str, name: str, owner: Any, rest: str = "") -> None:
        super().__init__(found, name)
        self.found = found
        self.name = name
        self.owner = owner
        self.rest = rest


def missing_error(missing: Missing, path: str) -> PathError:
    """The error of a path that breaks off.

    Args:
        missing: where it does.
        path: the path as it was written, whose spelling the suggestions keep; "" for none.
    """
    scope = ImportScope.current()
    top = missing.found.partition(".")[0] or missing.name
    hidden = scope.hidden(top) if scope else None
    notes = [hidden_note(hidden.name)] if hidden else []
    known = _names_below(missing.owner) if missing.found else _top_level_names()
    names = near_names(missing.name, known)
    near = (
        [_respelled(path, missing, name) for name in names if _leads_on(missing.owner, name, missing.rest)]
        if path
        else []
    )
    label = f"did you mean `{names[0]}`?" if names and not near else ""
    if not missing.found:
        folders = f" (looked in {' and '.join(scope.dirs)} first)" if scope else ""
        message = f"there is no module `{missing.name}`"
        remedy = f"install what brings it, or put `{missing.name}.py` beside the TOML file{folders}"
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
    """The error of a path that ends at a module."""
    last = path.rpartition(".")[2]
    own = _own_names(module)
    parent = sys.modules.get(module.__name__.rpartition(".")[0])
    near = [f"{path}.{name}" for name in near_names(last, own)]
    near += [f"{path[: -len(last)]}{name}" for name in near_names(last, _own_classes(parent))] if "." in path else []
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
    """Adds to the error of an unknown name the dotted paths that may have been meant."""
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


def _respelled(path: str, missing: Missing, name: str) -> str:
    """The path as it was written, with the missing name replaced."""
    tail = len(missing.rest) + 1 if missing.rest else 0
    until = len(path) - tail
    return path[: until - len(missing.name)] + name + path[until:]


def _leads_on(owner: Any, name: str, rest: str) -> bool:
    """Whether the rest of a path can be followed from a near name, as far as that is imported yet."""
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
    """The public classes and functions that a module (or, for a package, a part of it) defines or imports lazily."""
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
    """The names that a module lists in `__all__` and imports when they are first used (PEP 562)."""
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
