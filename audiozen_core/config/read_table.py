"""One table against its dataclass: unknown and missing keys, types, ranges."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from datetime import date, time
from typing import Any, Literal, Union, get_args, get_origin

from audiozen_core.config.composition import Composition
from audiozen_core.config.schema import Key, keys_of
from audiozen_core.config.sections import Component, Dataloader
from audiozen_core.config.toml.emit import inline
from audiozen_core.config.toml.interpolation import plain_value
from audiozen_core.config.toml.text_file import not_utf8
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.key_path import KeyPath

_NAMES = {bool: "`true` or `false`", int: "an integer", float: "a number", str: "a string", dict: "a table"}


# Larger integers fit into no tensor.
_LARGEST = 2**63 - 1


class _InvalidError(Exception):
    """A value that can't be used, already reported."""


class TableReader:
    """Reads tables into dataclasses and adds what is wrong to the findings of a composition."""

    def __init__(self, composition: Composition) -> None:
        self.composition = composition
        # The values that can't be used; others that depend on them need no finding of their own.
        self.invalid: set[KeyPath] = set()

    def read(self, kind: type, place: KeyPath, table: Mapping[str, Any]) -> Any:
        """The table as that dataclass, or None if that can't be made of it; every reason is reported."""
        keys = keys_of(kind)
        fields: dict[str, Any] = {"key": place} if issubclass(kind, Component) else {}
        whole = True
        guessed: set[str | None] = set()
        for name, value in table.items():
            if name not in keys:
                guessed.add(self._unknown_key(kind, place, name, [key for key in keys if key not in table]))
                continue
            try:
                fields[name] = self._value(keys[name], (*place, name), value)
            except _InvalidError:
                self.invalid.add((*place, name))
        for key in keys.values():
            if key.required and key.name not in fields:
                whole = False
            if key.required and key.name not in table and key.name not in guessed:
                message = f"`[{self.composition.spell(place)}]` has no `{key.name}`"
                self.report(
                    config_codes.MISSING_KEY, message, place, notes=(f"help: `{key.name}` is {key.rules['doc']}",)
                )
        return kind(**fields) if whole else None

    # ------------------------------------------------------------------------------------------ keys

    def _unknown_key(self, kind: type, place: KeyPath, name: str, missing: list[str]) -> str | None:
        """Reports a key that the table does not have, and gives the one that may be meant."""
        section = self.composition.spell(place)
        near = self.composition.nearest(name, missing) or self.composition.nearest(name, keys_of(kind))
        notes: tuple[str, ...] = (f"keys: {', '.join(keys_of(kind))}",)
        if not near and issubclass(kind, Component):
            notes = (f"help: arguments belong into [{section}.args]",)
        self.composition.findings.append(
            self.composition.finding(
                config_codes.UNKNOWN_KEY,
                f"unknown key `{name}` in `[{section}]`",
                (*place, name),
                at="key",
                label=f"did you mean `{near}`?" if near else "",
                suggestion=near,
                notes=() if near else notes,
            )
        )
        return near

    # ------------------------------------------------------------------------------------------ values

    def _value(self, key: Key, place: KeyPath, value: Any) -> Any:
        """The value in the type of its key.

        Raises:
            _InvalidError: if it has another type or is out of range.
        """
        if place in self.composition.unresolved:
            raise _InvalidError
        self._refuse_unwritable(place, value)
        options = get_args(key.type) if get_origin(key.type) in (Union, types.UnionType) else (key.type,)
        table = next((option for option in options if option in (Component, Dataloader)), None)
        if table is not None:
            return self._table(table, place, value)
        for option in options:
            if get_origin(option) is Literal:
                return self._choice(place, value, get_args(option))
            if _fits(value, get_origin(option) or option):
                return self._in_range(key, place, value)
        wanted = next(get_origin(option) or option for option in options if option is not type(None))
        suggestion = None if "choices" in key.rules else _converted(value, wanted)
        raise self.wrong_type(place, _NAMES[wanted], value, suggestion=suggestion)

    def _refuse_unwritable(self, place: KeyPath, value: Any) -> None:
        """Refuses text that is no path, and that no file can hold: such comes from `--set` or the environment."""
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and (why := "a NUL character" if "\0" in text else not_utf8(text)):
                raise self.report(config_codes.BAD_VALUE, f"`{self.composition.spell(place)}` holds {why}", place)

    def _table(self, kind: type, place: KeyPath, value: Any) -> Any:
        """A table within a table; where a component is wanted, its path alone will do."""
        if isinstance(value, str) and kind is Component:
            return Component(path=value, key=place)
        if not isinstance(value, dict):
            wanted = "a string or a table with `path`" if kind is Component else "a table"
            raise self.wrong_type(place, wanted, value)
        found = self.read(kind, place, value)
        if found is None:
            raise _InvalidError
        return found

    def _in_range(self, key: Key, place: KeyPath, value: Any) -> Any:
        rules = key.rules
        if "minimum" in rules and not value >= rules["minimum"]:
            message = f"`{self.composition.spell(place)}` is {value}, but must be at least {rules['minimum']}"
            raise self.report(config_codes.BAD_VALUE, message, place)
        maximum = rules.get("maximum", _LARGEST if isinstance(value, int) else None)
        if maximum is not None and value > maximum:
            message = f"`{self.composition.spell(place)}` must be at most {maximum}"
            raise self.report(config_codes.BAD_VALUE, message, place)
        if "pattern" in rules:
            if re.fullmatch(rules["pattern"], value):
                return value
            if "choices" not in rules:
                message = f"`{self.composition.spell(place)}` can't be `{value}`: it must match `{rules['pattern']}`"
                raise self.report(config_codes.BAD_VALUE, message, place)
        if "choices" in rules:
            return self._choice(place, value, rules["choices"])
        return float(value) if key.type is float else value

    def _choice(self, place: KeyPath, value: Any, choices: tuple[str, ...]) -> Any:
        if not isinstance(value, str):
            raise self.wrong_type(place, "a string", value)
        if value in choices:
            return value
        near = self.composition.nearest(value, choices)
        names = ", ".join(f"`{choice}`" for choice in choices)
        message = f"`{self.composition.spell(place)}` can't be `{value}`"
        label = f"did you mean `{near}`?" if near else ""
        suggestion = inline(near) if near else None
        raise self.report(
            config_codes.BAD_VALUE, message, place, label=label, suggestion=suggestion, notes=(f"one of: {names}",)
        )

    # ------------------------------------------------------------------------------------------ reporting

    def wrong_type(self, place: KeyPath, wanted: str, value: Any, **more: Any) -> Exception:
        """Reports that a value has another type than it should."""
        message = f"`{self.composition.spell(place)}` must be {wanted}, not {describe(value)}"
        suggestion = more.get("suggestion")
        label = f"did you mean `{suggestion}`?" if suggestion else f"expected {wanted}"
        return self.report(config_codes.WRONG_TYPE, message, place, label=label, **more)

    def report(self, code: str, message: str, place: KeyPath, **more: Any) -> Exception:
        """Adds a finding at a value."""
        self.composition.findings.append(self.composition.finding(code, message, place, **more))
        return _InvalidError()


def describe(value: Any) -> str:
    """The kind of a value of TOML, in words.

    Example:
        >>> describe(True), describe(1.5), describe([])
        ('a boolean', 'a floating-point number', 'an array')
    """
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, float):
        return "a floating-point number"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, date | time):
        return "a date or time"
    return _NAMES.get(type(value), type(value).__name__)


def _fits(value: Any, wanted: Any) -> bool:
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))


def _converted(value: Any, wanted: type) -> str | None:
    """The value in the wanted type, as TOML, where that is what was meant: `"5"` for 5, `5.0` for 5."""
    if isinstance(value, str) and wanted is not dict:
        word = value.lower() if wanted is bool else value
        plain = plain_value(word)
        return inline(plain) if _fits(plain, wanted) else None
    if wanted is int and isinstance(value, float) and value.is_integer():
        return str(int(value))
    if wanted is str and isinstance(value, int | float):
        return inline(str(value))
    if wanted is bool and value in (0, 1):
        return "true" if value else "false"
    return None
