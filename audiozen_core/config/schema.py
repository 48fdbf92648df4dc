"""Finds the keys that a table may have. The dataclasses in `sections` and in plugins define the keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.binding.annotations import members_of
from audiozen_core.binding.docstrings import parameter_docs
from audiozen_core.binding.signature import signature_of
from audiozen_core.binding.values import annotation_below
from audiozen_core.config.plugin_sections import section_names, section_table
from audiozen_core.config.sections import (
    Component,
    DatasetComponent,
    HookComponent,
    LossComponent,
    Meta,
    ModelComponent,
    OptimizerComponent,
    SchedulerComponent,
)
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.distributed.settings import Distributed
from audiozen_core.kinds import KINDS, SECTIONS, Kind, split_section
from audiozen_core.launcher.settings import Launcher

# The kinds whose sections have keys besides `path` and `args`.
_COMPONENTS = (
    ModelComponent, LossComponent, OptimizerComponent, SchedulerComponent, DatasetComponent, HookComponent
)  # fmt: skip
_TABLES: dict[str, type] = {
    "meta": Meta,
    "acoustics": Acoustics,
    "distributed": Distributed,
    "launcher": Launcher,
    **{component.kind: component for component in _COMPONENTS},
}


@dataclasses.dataclass(frozen=True, slots=True)
class KeySchema:
    """One key of a table. `rules` always has `doc`, and may have `choices` and `pattern`."""

    name: str
    type: Any
    default: Any
    rules: Mapping[str, Any]

    @property
    def required(self) -> bool:
        """Whether the key has no default."""
        return self.default is dataclasses.MISSING


def table_of(kind: Kind) -> type:
    """Returns the dataclass that a section of this kind is read into."""
    return _TABLES.get(kind.name, Component)


def table_at(key_path: KeyPath) -> type | None:
    """Returns the dataclass for the table at a key path; None if the table is unknown or, like `args`, may have any
    keys.

    If the key path begins with the section of a plugin, the plugin is imported.
    """
    if not key_path or not isinstance(key_path[0], str):
        return None
    section, rest = split_section(key_path[0]), key_path[1:]
    table: type | None
    if section is None:
        table = section_table(key_path[0])
    else:
        kind = SECTIONS[section[0]]
        table = table_of(kind)
        if rest and isinstance(rest[0], int) and kind.array:
            rest = rest[1:]
    annotation: Any = table
    for part in rest:
        annotation = annotation_below(annotation, part)
    classes = (member for member in members_of(annotation) if isinstance(member, type))
    return next(filter(dataclasses.is_dataclass, classes), None)


def known_keys(key_path: KeyPath) -> tuple[str, ...]:
    """Returns the keys that the table at a key path may have; empty if the table may have any keys or is unknown."""
    if not key_path:
        return (*SECTIONS, *section_names())
    table = table_at(key_path)
    return tuple(keys_of(table)) if table else ()


def key_at(key_path: KeyPath) -> KeySchema | None:
    """Returns the key at a key path; None if the key is unknown."""
    table = table_at(key_path[:-1]) if len(key_path) > 1 else None
    return keys_of(table).get(str(key_path[-1])) if table else None


def sections_with(key: str, *, components: bool = True) -> list[str]:
    """Returns the sections that have a key with this name. The keys `path` and `args` of components are not considered.

    Args:
        key: the name.
        components: whether to include the sections of components.

    Example:
        >>> sections_with("num_threads"), sections_with("compile"), sections_with("compile", components=False)
        (['meta'], ['model'], [])
    """
    tables = {name: table_of(kind) for kind in KINDS.values() for name in kind.section_names[:1]}
    return [
        name
        for name, table in tables.items()
        if key in keys_of(table) and (components or not issubclass(table, Component)) and key not in keys_of(Component)
    ]


@cache
def keys_of(table: type) -> dict[str, KeySchema]:
    """Returns a table's keys by name."""
    signature = signature_of(table)
    annotations = {found.name: found.annotation for found in signature.parameters} if signature else {}
    docs = parameter_docs(table)
    return {
        field.name: KeySchema(
            field.name,
            annotations.get(field.name, Any),
            field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default,
            {"doc": docs.get(field.name, ""), **field.metadata},
        )
        for field in dataclasses.fields(table)
        if field.init and not field.metadata.get("internal")
    }


@cache
def internal_fields(table: type) -> frozenset[str]:
    """Returns the fields of a dataclass that are not keys of the table in the TOML file."""
    return frozenset(field.name for field in dataclasses.fields(table) if field.metadata.get("internal"))
