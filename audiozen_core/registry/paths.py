"""Resolves a `path` to the object that it names.

The meaning of a path depends only on its form, not on the installed packages:

| form | meaning |
| --- | --- |
| `name` (no dot, no colon) | the installed component of that name and of the section's kind (such as `model`) |
| `distribution:name` | the component of that name in that distribution |
| `module.attr`, `pkg.module.Class.method` | a dotted import; the experiment's own folders are searched first |

So `sdnn` is an installed component even if `sdnn.py` is next to the TOML file, and `sdnn.Model` is a class in
`sdnn.py` even if a component `sdnn` is installed. A component whose name contains a dot must be written as
`distribution:name`.

Each part of a dotted path is looked up as an attribute of the object found so far, then as a sub-module of that object.
The package `audiozen` is imported like any other package.
"""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import replace
from types import ModuleType
from typing import Any

from audiozen_core import __version__
from audiozen_core.diagnostics import codes
from audiozen_core.kinds import kind_of
from audiozen_core.registry.compatibility import admits
from audiozen_core.registry.entry import NAME, Entry
from audiozen_core.registry.errors import PathError
from audiozen_core.registry.hints import MissingNameError, missing_name_error, module_error, unknown_name_hints
from audiozen_core.registry.importing import capture_standard_output, get_attribute, import_module
from audiozen_core.registry.index import PluginIndex, installed_index
from audiozen_core.registry.process_state import read_process_state, restore_process_state
from audiozen_core.registry.resolved import Resolved
from audiozen_core.registry.scope import ImportScope

__all__ = ["PathError", "Resolved", "load_entry", "resolve", "version_error"]

_MAX_LENGTH = 256
_PLAIN = re.compile(f"{NAME}(:{NAME})?", re.ASCII)


def resolve(path: object, *, section: str | None = None, index: PluginIndex | None = None) -> Resolved:
    """Imports the object that a path names. To find modules next to the TOML file, enter an `ImportScope` first.

    Within one `ImportScope`, a path is resolved only once. What an experiment builds is therefore what was checked,
    even if its module is reloaded (`importlib.reload`) in between. Names that are looked up in another `index` than
    that of this process are resolved each time.

    Args:
        path: the value of `path` in the TOML file. Values that are not a string raise an error.
        section: the section of the TOML file (`model_g`, `train_dataset`, …). A name without a dot or a colon is looked
            up among the components of the section's kind. It is looked up among all components if `section` is None, or
            if plugins can't publish components of this kind.
        index: the installed components (default: the components installed in this process).

    Raises:
        PathError: the path is malformed, its object does not exist, the import of its module fails, or its distribution
            requires another version of AudioZEN.
        AudioZenError: the module raised an `AudioZenError` itself, such as `MissingExtraError`.

    >>> resolve("fractions.Fraction.from_float").target(0.5)
    Fraction(1, 2)
    """
    scope = ImportScope.current()
    kind = kind_of(section) if section else None
    # Neither the kind nor the index changes the meaning of a dotted import.
    group = kind.name if kind and kind.group and _is_name(path) else None
    once = not _is_name(path) or index is None or index is installed_index()
    if scope and once and isinstance(path, str) and (known := scope.resolved.get((path, group))):
        return known
    path = _well_formed(path)
    if _is_name(path):
        found = _installed(path, section, group, index)
    else:
        module, *names = path.split(".")
        found = _import_object(module, names, path, section)
    if scope and once:
        scope.resolved[path, group] = found
    return found


def _installed(path: str, section: str | None, group: str | None, index: PluginIndex | None) -> Resolved:
    index = installed_index() if index is None else index
    try:
        entry = index.find(path, group)
    except PathError as error:
        raise unknown_name_hints(error, path, section) from None
    if wrong := version_error(entry):
        raise wrong
    if scope := ImportScope.current():
        scope.used.add((path, entry))
    return load_entry(entry, path=path)


def version_error(entry: Entry) -> PathError | None:
    """Returns an error if the distribution of a component requires another version of AudioZEN; otherwise None."""
    wanted = entry.requires
    if admits(wanted, __version__):
        return None
    return PathError(
        codes.OTHER_VERSION,
        f"{entry.origin} requires audiozen{wanted}; this is audiozen {__version__}",
        label=f"it comes from {entry.origin}",
        remedy=f"pip install --upgrade {entry.distribution}, or pip install 'audiozen{wanted}'",
    )


def load_entry(entry: Entry, *, path: str | None = None) -> Resolved:
    """Imports an installed component.

    Args:
        entry: the component.
        path: its `path` as written in the TOML file, for messages.

    Raises:
        PathError: the import of the component's module fails, or the module lacks the object. The message names the
            distribution.
        AudioZenError: the module raised an `AudioZenError` itself, such as `MissingExtraError`.
    """
    spelled = entry.spelling if path is None else path
    value, _, extras = entry.value.partition("[")
    module, _, attributes = (part.strip() for part in value.partition(":"))
    try:
        imported = _import_object(module, attributes.split(".") if attributes else [])
    except PathError as error:
        raise _of_component(error, spelled, entry, extras.rstrip("] ")) from error.__cause__
    return replace(imported, path=spelled, entry=entry)


def _import_object(module: str, names: list[str], path: str = "", section: str | None = None) -> Resolved:
    """Imports a module, and looks up the names in it: the first in the module, each further name in the last object.

    If the user wrote `path` in `section`, the error for a missing name suggests a similar path.
    """
    before = read_process_state() if _may_import(module, names) else None
    changed: tuple[str, ...] = ()
    try:
        with capture_standard_output() as captured:
            target = _follow(_import(module, names), names, module)
    except MissingNameError as missing:
        raise missing_name_error(missing, path, section) from None
    finally:
        scope = ImportScope.current()
        if before is not None and not (scope and scope.is_local(module)):
            changed = restore_process_state(before)
    dotted = ".".join([module, *names])
    if isinstance(target, ModuleType):
        raise module_error(dotted, target)
    return Resolved(path, target, dotted, None, captured.text, changed)


def _may_import(module: str, names: list[str]) -> bool:
    """Returns whether looking up the names may import anything: the module, a sub-module, or an attribute that a module
    imports lazily.
    """
    found: Any = sys.modules.get(module)
    for name in names:
        found = inspect.getattr_static(found, name, None)  # unlike `getattr`, does not trigger a lazy import
    return found is None


def _of_component(error: PathError, spelled: str, entry: Entry, extras: str) -> PathError:
    """Returns the error for a broken installed component, with the name of its distribution in the message."""
    absent = isinstance(error.__cause__, ModuleNotFoundError)
    remedy = f"pip install '{entry.distribution}[{extras}]'" if extras and absent else error.remedy
    return PathError(
        error.code,
        f"the component `{spelled}` of {entry.origin} is broken: {error.message}",
        notes=(*error.notes, f"entry point: {entry.group}: {entry.name} = {entry.value}"),
        remedy=remedy or f"tell the authors of {entry.distribution}, or install another version of it",
        label=f"it comes from {entry.origin}",
    )


def _well_formed(path: object) -> str:
    if not isinstance(path, str):
        kind = "a table" if isinstance(path, dict) else "an array" if isinstance(path, list) else f"`{path}`"
        raise PathError(
            codes.MALFORMED_PATH, f"a `path` must be a string, not {kind}", remedy='write it as path = "module.Class"'
        )
    if not path.strip():
        raise PathError(codes.MALFORMED_PATH, "the `path` is empty", remedy='write it as path = "module.Class"')
    if len(path) <= _MAX_LENGTH and (_PLAIN.fullmatch(path) if _is_name(path) else _is_dotted(path)):
        return path
    start = path[: _MAX_LENGTH + 1]
    fixed = start.strip().removesuffix("()").removesuffix("/").replace("\\", "/").replace(".py", "").replace("/", ".")
    fixed = re.sub(r"\.{2,}", ".", fixed).strip(".: ")
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in start)
    shown = shown if len(shown) <= 80 else shown[:79] + "…"
    raise PathError(
        codes.MALFORMED_PATH,
        f"`{shown}` is not a well-formed `path`",
        suggestion=fixed if _is_dotted(fixed) and len(path) <= _MAX_LENGTH else None,
        remedy="a path is the name of an installed component, `distribution:name`, or `module.Class`",
    )


def _is_name(path: object) -> bool:
    """Returns whether a path names an installed component, and not a dotted import."""
    return isinstance(path, str) and ("." not in path or ":" in path)


def _is_dotted(path: str) -> bool:
    return all(part.isidentifier() for part in path.split("."))


def _import(module: str, names: list[str]) -> ModuleType:
    """Imports the module.

    Raises:
        MissingNameError: the module does not exist. The error contains `names`, which follow the module in the path.
    """
    imported = import_module(module)
    if imported is None:
        found, _, name = module.rpartition(".")
        raise MissingNameError(found, name, None, names)
    return imported


def _follow(owner: Any, names: list[str], found: str) -> Any:
    """Looks up the first name in `owner`, and each further name in the object that was found last.

    An attribute takes precedence over a sub-module of the same name.
    """
    if not names:
        return owner
    name, *rest = names
    missing = MissingNameError(found, name, owner, rest)
    try:
        attribute = get_attribute(owner, name, found)
    except AttributeError:
        pass
    else:
        try:
            return _follow(attribute, rest, f"{found}.{name}")
        except MissingNameError as deeper:
            # A package may export a function `model` from its sub-module `model`. If the function lacks the next name,
            # the path may mean the sub-module.
            if isinstance(attribute, ModuleType):
                raise
            missing = deeper
    if not isinstance(owner, ModuleType) or not hasattr(owner, "__path__"):
        raise missing
    module = import_module(f"{owner.__name__}.{name}")
    if module is None:
        raise missing
    return _follow(module, rest, f"{found}.{name}")
