"""Formats TOML values exactly, shortened for a message, or with a description of their type."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time
from pathlib import PurePath
from typing import Any

from audiozen_core.diagnostics.key_path import quote, spell_key

_SHOWN_CHARACTERS = 40
_SHOWN_ITEMS = 8


def toml_text(value: Any) -> str:
    """Returns a value as TOML, on one line. Loading the text gives the same value.

    `${` in a string becomes `$${`, so that loading the text does not treat it as a reference.

    Raises:
        TypeError: the value has a type that TOML does not have.

    Example:
        >>> toml_text({"a": [1, 0.5, True, "x"]})
        '{ a = [1, 0.5, true, "x"] }'
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return quote(escape_references(value))
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{spell_key(key)} = {toml_text(entry)}" for key, entry in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_text(entry) for entry in value) + "]"
    raise TypeError(f"TOML has no value of type {type(value).__name__}")


def short_toml_text(value: Any) -> str:
    """Returns a value as TOML for a message. Long strings are cut, and long arrays and tables are replaced by `…`.

    Example:
        >>> short_toml_text([1, "x", {"a": 1}]), short_toml_text(list(range(100)))
        ('[1, "x", {…}]', '[…]')
    """
    if isinstance(value, Mapping):
        return "{…}"
    if isinstance(value, list):
        text = f"[{', '.join(short_toml_text(item) for item in value[:_SHOWN_ITEMS])}]"
        return text if len(text) <= _SHOWN_CHARACTERS and len(value) <= _SHOWN_ITEMS else "[…]"
    try:
        text = toml_text(value)
    except TypeError:
        return str(value)
    if isinstance(value, str) and len(text) > _SHOWN_CHARACTERS:
        return f'{text[: _SHOWN_CHARACTERS - 2]}…"'
    return text


def value_in_words(value: Any) -> str:
    """Returns a value with a description of its type, for a message.

    Example:
        >>> value_in_words("fast"), value_in_words({"a": 1})
        ('the string `"fast"`', 'a table')
    """
    if isinstance(value, Mapping):
        return "a table"
    kinds = {bool: "the boolean", int: "the integer", float: "the float", str: "the string", list: "the array"}
    return f"{kinds.get(type(value), 'the date or time')} `{short_toml_text(value)}`"


def as_toml_value(value: Any) -> Any:
    """Converts a Python value to a TOML value: tuples and sets become arrays, and paths become strings.

    Example:
        >>> as_toml_value((0.9, 0.999))
        [0.9, 0.999]
    """
    if isinstance(value, tuple | list | set | frozenset):
        return [as_toml_value(item) for item in value]
    return str(value) if isinstance(value, PurePath) else value


def read_scalar(text: str) -> Any:
    """Parses a TOML number, boolean or quoted string. Any other text is returned unchanged.

    Example:
        >>> read_scalar("8"), read_scalar("1e-3"), read_scalar("true"), read_scalar("/data"), read_scalar('"8"')
        (8, 0.001, True, '/data', '8')
    """
    if "\n" in text:
        return text
    import tomli

    try:
        value = tomli.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, bool | int | float | str) else text


def escape_references(text: str) -> str:
    """Replaces each `${` by `$${`, so that it is not treated as a reference."""
    return text.replace("${", "$${")
