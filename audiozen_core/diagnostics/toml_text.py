"""TOML values as text: exact, shortened for a message, or in words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time
from pathlib import PurePath
from typing import Any

from audiozen_core.diagnostics.key_path import quote, spell_key

_SHOWN_CHARACTERS = 40
_SHOWN_ITEMS = 8


def toml_text(value: Any) -> str:
    """Returns one value as TOML, on one line. Loading the text gives the same value.

    `${` in a string becomes `$${`. Otherwise it would be read as a reference when the text is loaded.

    Raises:
        TypeError: TOML has no such value.

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
    """Returns one value as TOML, for a message: long strings and arrays are cut, and tables are left out.

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
    """Returns a value and its type in words, for a message.

    Example:
        >>> value_in_words("fast"), value_in_words({"a": 1})
        ('the string `"fast"`', 'a table')
    """
    if isinstance(value, Mapping):
        return "a table"
    kinds = {bool: "the boolean", int: "the integer", float: "the float", str: "the string", list: "the array"}
    return f"{kinds.get(type(value), 'the date or time')} `{short_toml_text(value)}`"


def as_toml_value(value: Any) -> Any:
    """The TOML value for a Python value, such as the default of an argument: an array for a tuple, a string for a path.

    Example:
        >>> as_toml_value((0.9, 0.999))
        [0.9, 0.999]
    """
    if isinstance(value, tuple | list | set | frozenset):
        return [as_toml_value(item) for item in value]
    return str(value) if isinstance(value, PurePath) else value


def read_scalar(text: str) -> Any:
    """Reads a text as a TOML number, boolean or quoted string; any other text is returned as it is.

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
    """Returns the text with `$${` for each `${`, so that it is not read as a reference."""
    return text.replace("${", "$${")
