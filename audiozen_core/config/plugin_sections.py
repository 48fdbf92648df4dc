"""The sections that plugins provide. A plugin publishes a dataclass in the entry-point group `audiozen.section`."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from audiozen_core.binding.arguments import check_arguments
from audiozen_core.config.composition import Composition
from audiozen_core.config.renamed_keys import current_name
from audiozen_core.diagnostics import codes, config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic, Finding
from audiozen_core.diagnostics.listed import listed
from audiozen_core.diagnostics.suggestions import nearest
from audiozen_core.errors import AudioZenError, BuildError, RegistryError, RunError
from audiozen_core.kinds import split_section
from audiozen_core.registry.index import PluginIndex, installed_index
from audiozen_core.registry.paths import Resolved, resolve

KIND = "section"
"""The kind of the components that provide sections."""


class PluginSections(dict[str, Any]):
    """Maps the names of plugin sections in the TOML file to objects of their dataclasses.

    If the file lacks a section, `sections["acme"]` creates the object from the defaults of the dataclass. The plugin is
    not imported before, so that an installed plugin does not slow down a run that does not use it.

    Raises:
        RunError: no plugin has the section; or the file lacks the section, and a field of the dataclass has no default.
    """

    def __missing__(self, name: str) -> Any:
        """Creates the object of a section that the file lacks, from the defaults of the dataclass."""
        names = section_names()
        if name not in names:
            similar = nearest(name, names)
            raise RunError(
                f"no installed plugin provides a section `{name}`; {_listed(names)}",
                remedy=f"did you mean `{similar}`?" if similar else "install the plugin that provides it",
            )
        cls = section_class(resolve(name, section=KIND))
        if needed := [field.name for field in dataclasses.fields(cls) if field.init and _has_no_default(field)]:
            raise RunError(
                f"the TOML file has no [{name}], and `{needed[0]}` has no default",
                remedy=f"add [{name}] with {listed([f'`{key}`' for key in needed])}",
            )
        self[name] = cls()
        return self[name]


def section_names(index: PluginIndex | None = None) -> tuple[str, ...]:
    """Returns the names of the sections that plugins provide, without the names of AudioZEN's own sections."""
    index = installed_index() if index is None else index
    return tuple(name for name in index.names(KIND) if not is_taken(name))


def is_taken(name: str) -> bool:
    """Returns whether AudioZEN itself has a section with this name, under its current or an old name.

    >>> is_taken("model_g"), is_taken("loss"), is_taken("extends"), is_taken("acme")
    (True, True, True, False)
    """
    return name == "extends" or split_section(current_name((), name)) is not None


def section_class(resolved: Resolved) -> type:
    """Returns the dataclass of a section.

    Raises:
        RegistryError: the object is not a dataclass.
    """
    target = resolved.target
    if not isinstance(target, type) or not dataclasses.is_dataclass(target):
        owner = f"of {resolved.entry.origin} " if resolved.entry else ""
        raise RegistryError(
            f"the section `{resolved.path}` {owner}is not a dataclass, but `{resolved.dotted}`",
            remedy="tell the plugin's authors that the entry point of a section must name a class with `@dataclass`",
        )
    return target


def section_table(name: str) -> type | None:
    """Returns the dataclass of a plugin's section; None if no plugin provides the section or the import fails."""
    if name not in section_names():
        return None
    try:
        return section_class(resolve(name, section=KIND))
    except AudioZenError:
        return None  # `check_sections` reports the error


def check_sections(
    tables: Mapping[str, Mapping[str, Any]], composition: Composition, index: PluginIndex, sections: PluginSections
) -> Iterator[Finding]:
    """Checks the sections of plugins. Adds an object to `sections` for each section without errors.

    Args:
        tables: the tables in the file, by section.
        composition: the values of the file, with their origins.
        index: the installed components.
        sections: the mapping to add the objects to.
    """
    for name, table in tables.items():
        owners = [entry for entry in index.entries(KIND) if entry.name == name]
        if len(owners) > 1:
            yield _shared(name, [entry.origin for entry in owners], [entry.distribution for entry in owners]), (name,)
            continue
        try:
            resolved = resolve(name, section=KIND, index=index)
            cls = section_class(resolved)
        except AudioZenError as error:
            yield from ((finding, (name,)) for finding in error.diagnostics)
            continue
        problems = check_arguments(resolved.signature, table, name=f"[{name}]", noun="key")
        for problem in problems:
            yield dataclasses.replace(problem, place=problem.place[1:]), (name,)
        if problems or any(place[0] == name for place in composition.unresolved):
            continue
        try:
            # The `__post_init__` of the dataclass may check the values, so any exception is possible.
            sections[name] = resolved.build(copy.deepcopy(dict(table)))
        except AudioZenError as error:
            yield from ((finding, (name,)) for finding in error.diagnostics)
        # A `sys.exit(0)` in `__post_init__` would end `audiozen check` as if the file had no errors.
        except (Exception, SystemExit) as error:
            failed = BuildError.caused_by(error, f"[{name}] can't be used: `{cls.__qualname__}` raised")
            notes = (*failed.notes, *resolved.notes)
            yield Diagnostic(config_codes.BAD_VALUE, failed.message, notes=notes), (name,)


def _shared(name: str, origins: list[str], distributions: list[str]) -> Diagnostic:
    ways = " or ".join(f"`--without {distribution}`" for distribution in distributions)
    message = f"the section `[{name}]` belongs to several plugins: {' and '.join(origins)}"
    return Diagnostic(codes.CLASH, message, at="key", notes=(f"help: switch one of them off with {ways}",))


def _listed(names: Collection[str]) -> str:
    return f"there are {listed([f'[{name}]' for name in names])}" if names else "no plugin provides any sections"


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
