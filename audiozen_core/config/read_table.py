"""Reads a TOML table into its dataclass, and reports unknown keys, missing keys, wrong types and wrong values."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from audiozen_core.binding.annotations import members_of, unwrap
from audiozen_core.binding.messages import label_and_suggestion, type_in_words
from audiozen_core.binding.ranges import wrong_numbers
from audiozen_core.binding.values import annotation_below, fits, wrong_places
from audiozen_core.config.composition import Composition
from audiozen_core.config.schema import KeySchema, internal_fields, keys_of, sections_with
from audiozen_core.config.sections import Component
from audiozen_core.config.toml.text_file import can_be_utf8
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.diagnostics.toml_text import toml_text, value_in_words

# The largest integer that fits into a tensor.
_MAX_INTEGER = 2**63 - 1


class _InvalidError(Exception):
    """A value can't be used. The reason has been reported already."""


class TableReader:
    """Reads tables into dataclasses and adds errors to the findings of a composition."""

    def __init__(self, composition: Composition) -> None:
        self.composition = composition
        # The key paths of values that can't be used. Later checks skip these values, because they have already been
        # reported.
        self.invalid: set[KeyPath] = set()

    def read(self, kind: type, place: KeyPath, table: Mapping[str, Any]) -> Any:
        """Reads a table into the dataclass `kind`, and reports errors. Returns None if a required key is unusable."""
        keys = keys_of(kind)
        internal = internal_fields(kind)
        fields: dict[str, Any] = {"key": place} if "key" in internal else {}
        if "args" in internal:
            fields["args"] = {name: value for name, value in table.items() if name not in keys}
        complete = True
        guessed: set[str | None] = set()
        for name, value in table.items():
            if name in fields.get("args", ()):
                continue
            if name not in keys:
                guessed.add(self._unknown_key(kind, place, name, [key for key in keys if key not in table]))
                continue
            try:
                fields[name] = self._value(keys[name], (*place, name), value)
            except _InvalidError:
                self.invalid.add((*place, name))
        for key in keys.values():
            if key.required and key.name not in fields:
                complete = False
            if key.required and key.name not in table and key.name not in guessed:
                message = f"`[{self.composition.spell(place)}]` has no `{key.name}`"
                self.report(
                    config_codes.MISSING_KEY, message, place, notes=(f"help: `{key.name}` is {key.rules['doc']}",)
                )
        return kind(**fields) if complete else None

    # ------------------------------------------------------------------------------------------ keys

    def _unknown_key(self, kind: type, place: KeyPath, name: str, missing: list[str]) -> str | None:
        """Reports an unknown key, and returns the known key that the user probably meant."""
        section = self.composition.spell(place)
        near = nearest(name, missing) or nearest(name, keys_of(kind))
        notes: tuple[str, ...] = (f"keys: {', '.join(keys_of(kind))}",)
        # An unknown key of a component is probably an argument of the component, and not a key of another component.
        owners = sections_with(name, components=not issubclass(kind, Component))
        if owners:
            notes = (f"help: `{name}` belongs in [{owners[0]}]",)
        elif issubclass(kind, Component):
            notes = (f"help: arguments belong in [{section}.args]",)
        self.composition.findings.append(
            self.composition.finding(
                config_codes.UNKNOWN_KEY,
                f"unknown key `{name}` in `[{section}]`",
                (*place, name),
                at="key",
                label=did_you_mean(near),
                suggestion=near,
                notes=() if near else notes,
            )
        )
        return near

    # ------------------------------------------------------------------------------------------ values

    def _value(self, key: KeySchema, place: KeyPath, value: Any) -> Any:
        """Converts a value to the type of its key. Raises `_InvalidError` if the value can't be used."""
        if place in self.composition.unresolved:
            raise _InvalidError
        self._refuse_unwritable(place, value)
        members = members_of(key.type)
        table = _table_in(members)
        if table is not None:
            return self._table(table, place, value)
        entry = _table_in(members_of(annotation_below(key.type, 0)))
        if entry is not None:
            return self._array_of_tables(entry, place, value)
        literal = next((member for member in members if get_origin(member) is Literal), None)
        others = [member for member in members if member not in (literal, NoneType)]
        if literal is not None and (not others or isinstance(value, str)):
            return self._choice(place, value, get_args(literal), [type_in_words(other) for other in others])
        if fits(value, key.type) == "yes" or (isinstance(value, dict) and _takes_any_table(key)):
            return self._in_range(key, place, value)
        # `wrong_places` accepts a table with a `path`, because an argument may be a nested component. The value of this
        # key can't be a component, so if `wrong_places` finds nothing, the whole value is wrong.
        for inner, wrong, annotation in wrong_places(value, key.type, place) or [(place, value, key.type)]:
            label, suggestion = label_and_suggestion(wrong, annotation)
            if _takes_table(key) and isinstance(wrong, list) and wrong and isinstance(wrong[0], dict):
                header = ".".join(part for part in self.composition.origin(place).key if isinstance(part, str))
                label = f"write `[{header}]`, with one pair of brackets"
            if "choices" in key.rules:
                label, suggestion = f"expected {type_in_words(annotation)}", None
            self.wrong_type(inner, type_in_words(annotation), wrong, label=label, suggestion=suggestion)
        raise _InvalidError

    def _refuse_unwritable(self, place: KeyPath, value: Any) -> None:
        """Reports strings that a path or a file can't contain. They may come from `--set` or the environment."""
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str) or ("\0" not in text and can_be_utf8(text)):
                continue
            what = "a NUL character" if "\0" in text else "bytes that are not UTF-8"
            raise self.report(config_codes.BAD_VALUE, f"`{self.composition.spell(place)}` contains {what}", place)

    def _table(self, kind: type, place: KeyPath, value: Any) -> Any:
        """Reads a table within a table. A component may also be a string, which is the component's path."""
        if isinstance(value, str) and kind is Component:
            return Component(path=value, key=place)
        if not isinstance(value, dict):
            wanted = "a string or a table with `path`" if kind is Component else "a table"
            raise self.wrong_type(place, wanted, value)
        found = self.read(kind, place, value)
        if found is None:
            raise _InvalidError
        return found

    def _array_of_tables(self, kind: type, place: KeyPath, value: Any) -> list[Any]:
        """Reads an array of tables."""
        if not isinstance(value, list):
            header = self.composition.spell(place)
            label = f"write `[[{header}]]`, with two pairs of brackets" if isinstance(value, dict) else ""
            raise self.wrong_type(place, "an array of tables", value, **({"label": label} if label else {}))
        return [self._table(kind, (*place, index), entry) for index, entry in enumerate(value)]

    def _in_range(self, key: KeySchema, place: KeyPath, value: Any) -> Any:
        rules = key.rules
        for _, wrong in wrong_numbers(value, key.type):
            raise self.report(config_codes.BAD_VALUE, f"`{self.composition.spell(place)}` {wrong}", place)
        if isinstance(value, int) and value > _MAX_INTEGER:
            message = f"`{self.composition.spell(place)}` must be at most {_MAX_INTEGER}"
            raise self.report(config_codes.BAD_VALUE, message, place)
        if "pattern" in rules:
            if re.fullmatch(rules["pattern"], value):
                return value
            if "choices" not in rules:
                message = f"`{self.composition.spell(place)}` can't be `{value}`: it must match `{rules['pattern']}`"
                raise self.report(config_codes.BAD_VALUE, message, place)
        if "choices" in rules:
            return self._choice(place, value, rules["choices"])
        return float(value) if unwrap(key.type) is float else value

    def _choice(self, place: KeyPath, value: Any, choices: tuple[str, ...], others: Sequence[str] = ()) -> Any:
        """Returns the value if it is one of the choices. `others` describes further values that the key accepts."""
        if not isinstance(value, str):
            raise self.wrong_type(place, "a string", value)
        if value in choices:
            return value
        near = nearest(value, choices)
        names = ", ".join(f"`{choice}`" for choice in choices)
        message = f"`{self.composition.spell(place)}` can't be `{value}`"
        label = did_you_mean(near)
        suggestion = toml_text(near) if near else None
        raise self.report(
            config_codes.BAD_VALUE,
            message,
            place,
            label=label,
            suggestion=suggestion,
            notes=(f"one of: {', '.join([names, *others])}",),
        )

    # ------------------------------------------------------------------------------------------ reporting

    def wrong_type(self, place: KeyPath, wanted: str, value: Any, **more: Any) -> Exception:
        """Reports a value of the wrong type."""
        message = f"`{self.composition.spell(place)}` must be {wanted}, not {value_in_words(value)}"
        return self.report(config_codes.WRONG_TYPE, message, place, **{"label": f"expected {wanted}", **more})

    def report(self, code: str, message: str, place: KeyPath, **more: Any) -> Exception:
        """Adds a finding at the position of a value."""
        self.composition.findings.append(self.composition.finding(code, message, place, **more))
        return _InvalidError()


def _table_in(members: Iterable[Any]) -> type | None:
    return next((member for member in members if isinstance(member, type) and dataclasses.is_dataclass(member)), None)


def _takes_table(key: KeySchema) -> bool:
    return any(get_origin(member) is dict for member in members_of(key.type))


def _takes_any_table(key: KeySchema) -> bool:
    return _takes_table(key) and annotation_below(key.type, "") is Any
