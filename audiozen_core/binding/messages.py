"""Annotations and values in words."""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import os
import types
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Literal, Union, get_args, get_origin

from audiozen_core.binding.annotations import MAPPINGS, is_array, members_of, plain
from audiozen_core.binding.values import fits
from audiozen_core.diagnostics.suggestions import near_names

_WORDS = {
    int: "an integer",
    float: "a number",
    complex: "a number",
    str: "a string",
    bool: "`true` or `false`",
    os.PathLike: "a string",
}
_SHOWN = 40


def type_text(annotation: Any) -> str:
    """An annotation as a reader of Python knows it; what no TOML can say (`None`) is left out.

    >>> type_text(Literal["min", "max"]), type_text(float | list[float] | None)
    ('"min" | "max"', 'float | list[float]')
    """
    annotation = plain(annotation)
    origin = get_origin(annotation)
    args = get_args(annotation)
    if origin is Literal:
        return " | ".join(toml_text(choice) for choice in args if choice is not None)
    if origin in (Union, types.UnionType):
        return " | ".join(type_text(member) for member in args if member is not types.NoneType)
    if annotation is Ellipsis:
        return "..."
    if origin is not None and args and origin is not collections.abc.Callable:
        return f"{getattr(origin, '__name__', origin)}[{', '.join(type_text(arg) for arg in args)}]"
    return str(getattr(origin or annotation, "__name__", annotation))


def toml_text(value: Any) -> str:
    """A value as a TOML would have it, cut where it is long."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= _SHOWN else f'{text[: _SHOWN - 2]}…"'
    if isinstance(value, list):
        text = f"[{', '.join(toml_text(item) for item in value[:9])}]"
        return text if len(text) <= _SHOWN and len(value) < 9 else "[…]"
    return "{…}" if isinstance(value, Mapping) else str(value)


def described(value: Any) -> str:
    """What a value is, for a message: `the string "fast"`."""
    if isinstance(value, Mapping):
        return "a table"
    kinds = {bool: "the boolean", int: "the integer", float: "the float", str: "the string", list: "the array"}
    return f"{kinds.get(type(value), 'the date or time')} `{toml_text(value)}`"


def wanted(value: Any, annotation: Any) -> tuple[str, str | None]:
    """What to say where a value is wrong, and the TOML value that was probably meant, if one is near."""
    members = members_of(plain(annotation))
    choices = [choice for member in members if get_origin(member) is Literal for choice in get_args(member)]
    near = _meant(value, members, choices)
    if near is not None:
        return f"did you mean `{near}`?", near
    if choices:
        return f"one of {', '.join(toml_text(choice) for choice in choices)}", None
    words = list(dict.fromkeys(filter(None, map(_word, members))))
    return (f"{' or '.join(words)} is wanted" if words else ""), None


def _meant(value: Any, members: tuple[Any, ...], choices: list[Any]) -> str | None:
    if isinstance(value, str):
        if near := near_names(value, [choice for choice in choices if isinstance(choice, str)], 1):
            return toml_text(near[0])
        if value.lower() in ("true", "false") and bool in members:
            return value.lower()
        for number in (int, float):
            if number in members or (number is int and float in members):
                try:
                    number(value)
                except ValueError:
                    continue
                return value.strip() if "_" not in value else None
    if isinstance(value, float) and value.is_integer() and int in members:
        return str(int(value))
    if isinstance(value, int) and not isinstance(value, bool) and value in (0, 1) and bool in members:
        return toml_text(bool(value))
    arrays = [member for member in members if is_array(get_origin(member) or member)]
    if isinstance(value, str | int | float) and any(fits([value], member) == "yes" for member in arrays):
        return f"[{toml_text(value)}]"
    return None


def _word(annotation: Any) -> str:
    origin = get_origin(annotation) or annotation
    if origin in _WORDS:
        return _WORDS[origin]
    if not isinstance(origin, type):
        return ""
    if issubclass(origin, PurePath):
        return "a string"
    if is_array(origin):
        args = get_args(annotation)
        fixed = origin is tuple and args and args[-1] is not Ellipsis
        return f"an array of {len(args)}" if fixed else "an array"
    return "a table" if origin in MAPPINGS or dataclasses.is_dataclass(origin) else ""
