"""Creates a JSON Schema of experiment files for editors: sections, keys, installed components and their arguments."""

from __future__ import annotations

import collections.abc
import dataclasses
import types
from inspect import Parameter
from pathlib import PurePath
from typing import Any, Literal, Union, get_args, get_origin

from audiozen_core.binding.annotations import annotated_members, unwrap
from audiozen_core.binding.docstrings import parameter_docs, summary
from audiozen_core.binding.ranges import Range
from audiozen_core.binding.signature import signature_of
from audiozen_core.config.plugin_sections import KIND, section_class, section_names
from audiozen_core.config.schema import KeySchema, internal_fields, keys_of, table_of
from audiozen_core.config.sections import Component
from audiozen_core.errors import AudioZenError
from audiozen_core.kinds import SECTIONS, Kind
from audiozen_core.registry.index import PluginIndex, installed_index
from audiozen_core.registry.paths import resolve

Schema = dict[str, Any]

_SCALARS: dict[Any, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}
# The keyword of draft 7 for each limit of a `Range`. Validators apply the keywords to numbers only.
_LIMITS = {"least": "minimum", "most": "maximum", "above": "exclusiveMinimum", "below": "exclusiveMaximum"}
# A string with a reference, which is allowed for each key because a reference may resolve to a value of any type.
_REFERENCE: Schema = {"type": "string", "pattern": r"\$\{"}


def experiment_schema(index: PluginIndex | None = None) -> Schema:
    """Creates the JSON Schema (draft 7). Every installed component is imported to read its signature.

    Args:
        index: the installed components (default: the components installed in this process).
    """
    index = index or installed_index()
    definitions = {name: _section(kind, index) for name, kind in SECTIONS.items()}
    sections = {name: {"$ref": f"#/definitions/{name}"} for name in SECTIONS}
    for name in section_names(index):
        sections[name] = {"$ref": f"#/definitions/{name}"}
        definitions[name] = _plugin_section(name, index)
    suffixed = {f"^{name}_.+$": sections[name] for name, kind in SECTIONS.items() if kind.suffixed}
    extends = {"description": "the file or files that this file extends, relative to this file"}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "AudioZEN experiment",
        "type": "object",
        "properties": {
            "extends": {**extends, "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
            **sections,
        },
        "patternProperties": suffixed,
        "additionalProperties": False,
        "definitions": definitions,
    }


def _plugin_section(name: str, index: PluginIndex) -> Schema:
    try:
        cls = section_class(resolve(name, section=KIND, index=index))
    except AudioZenError:
        return {"type": "object"}
    return {"description": summary(cls), **_table(cls, None, index)}


def _section(kind: Kind, index: PluginIndex) -> Schema:
    schema = _table(table_of(kind), kind, index)
    if not kind.array:
        return schema
    # With `if` instead of `anyOf`, editors mark only the wrong key, not the whole section.
    return {"type": ["object", "array"], "if": {"type": "array"}, "then": {"items": schema}, "else": schema}


def _table(table: type, kind: Kind | None, index: PluginIndex) -> Schema:
    keys = keys_of(table)
    schema: Schema = {
        "type": "object",
        "properties": {name: _key(key, index) for name, key in keys.items()},
        "additionalProperties": "args" in internal_fields(table),
    }
    # No key is required, because a file may inherit any key from the file that it extends.
    if issubclass(table, Component) and kind:
        choices = [_choice(name, kind, index) for name in index.names(kind.name)]
        schema["properties"]["path"] = {
            "description": str(keys["path"].rules["doc"]),
            "anyOf": [*(entry for entry, _ in choices), {"type": "string"}],
        }
        if rules := [rule for _, rule in choices if rule]:
            schema["allOf"] = rules
    return schema


def _choice(name: str, kind: Kind, index: PluginIndex) -> tuple[Schema, Schema]:
    """Returns the schemas of a component's name and of its arguments. The latter may be empty."""
    try:
        target = resolve(name, section=kind.name, index=index).target
    except AudioZenError:
        return {"enum": [name]}, {}
    signature = signature_of(target)
    entry = {"enum": [name], "description": summary(target)}
    if signature is None:
        return entry, {}
    docs = parameter_docs(target)
    args: Schema = {
        "type": "object",
        "properties": {
            found.name: _parameter(found, docs.get(found.name, ""))
            for found in signature.parameters
            if found.name not in kind.injected and found.kind is not Parameter.POSITIONAL_ONLY
        },
        "additionalProperties": signature.open,
    }
    named = {"properties": {"path": {"enum": [name]}}, "required": ["path"]}
    return entry, {"if": named, "then": {"properties": {"args": args}}}


def _parameter(found: Parameter, doc: str) -> Schema:
    schema = _type(found.annotation)
    if doc:
        schema = {**schema, "description": doc}
    if isinstance(found.default, str | int | float):
        schema = {**schema, "default": found.default}
    return schema


def _key(key: KeySchema, index: PluginIndex) -> Schema:
    rules = key.rules
    table = next((part for part in (key.type, *get_args(key.type)) if dataclasses.is_dataclass(part)), None)
    if isinstance(table, type):
        schema = _table(table, None, index)
        if get_origin(key.type) is list:
            schema = {"type": "array", "items": schema}
    elif "choices" in rules and "pattern" not in rules:
        schema = {"enum": list(rules["choices"])}
    else:
        schema = _type(key.type)
    for limits in (limits for _, ranges in annotated_members(key.type, Range) for limits in ranges):
        given = {keyword: getattr(limits, name) for name, keyword in _LIMITS.items()}
        schema = {**schema, **{keyword: limit for keyword, limit in given.items() if limit is not None}}
    if isinstance(key.default, str | int | float):
        schema = {**schema, "default": key.default}
    return {**schema, "description": str(rules.get("doc", ""))}


def _type(annotation: Any) -> Schema:
    """Returns the schema of the TOML values that fit an annotation; `{}`, which allows any value, if it is unknown."""
    annotation = unwrap(annotation)
    if annotation in _SCALARS:
        kind = {"type": _SCALARS[annotation]}
        return kind if annotation is str else {"anyOf": [kind, _REFERENCE]}
    origin = get_origin(annotation) or annotation
    if origin is Literal:
        return {"enum": list(get_args(annotation))}
    if origin in (Union, types.UnionType):
        options = [_type(option) for option in get_args(annotation) if option is not types.NoneType]
        return options[0] if len(options) == 1 else {} if {} in options else {"anyOf": options}
    if isinstance(origin, type) and issubclass(origin, PurePath):
        return {"type": "string"}
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        return {"type": "object"}
    if origin in (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Collection):
        return {"type": "array"}
    return {}
