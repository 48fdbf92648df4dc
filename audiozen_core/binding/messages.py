"""Describes types in plain language, and suggests a replacement for a value of the wrong type."""

from __future__ import annotations

import collections.abc
import dataclasses
import os
import types
from pathlib import PurePath
from typing import Any, Literal, Union, get_args, get_origin

from audiozen_core.binding.annotations import MAPPINGS, is_array, members_of, unwrap
from audiozen_core.binding.values import fits
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.diagnostics.toml_text import read_scalar, short_toml_text, toml_text

_WORDS = {
    int: "an integer",
    float: "a number",
    complex: "a number",
    str: "a string",
    bool: "`true` or `false`",
    os.PathLike: "a string",
}


def type_text(annotation: Any) -> str:
    """Formats an annotation in Python's notation, but without `None`, because TOML has no such value.

    >>> type_text(Literal["min", "max"]), type_text(float | list[float] | None)
    ('"min" | "max"', 'float | list[float]')
    """
    annotation = unwrap(annotation)
    origin = get_origin(annotation)
    args = get_args(annotation)
    if origin is Literal:
        return " | ".join(short_toml_text(choice) for choice in args if choice is not None)
    if origin in (Union, types.UnionType):
        return " | ".join(type_text(member) for member in args if member is not types.NoneType)
    if annotation is Ellipsis:
        return "..."
    if origin is not None and args and origin is not collections.abc.Callable:
        return f"{getattr(origin, '__name__', origin)}[{', '.join(type_text(arg) for arg in args)}]"
    return str(getattr(origin or annotation, "__name__", annotation))


def type_in_words(annotation: Any) -> str:
    """Describes the TOML values that fit an annotation in plain language; returns "" if the type is unknown.

    >>> type_in_words(int | list[str] | None), type_in_words(Literal["min", "max"])
    ('an integer or an array of strings', 'one of "min", "max"')
    """
    words = [_member_in_words(member) for member in members_of(annotation)]
    return " or ".join(dict.fromkeys(filter(None, words)))


def label_and_suggestion(value: Any, annotation: Any) -> tuple[str, str | None]:
    """Returns the label for a value of the wrong type, and the TOML value that the user probably meant, or None.

    >>> label_and_suggestion("5", int), label_and_suggestion("five", int)
    (('did you mean `5`?', '5'), ('expected an integer', None))
    """
    meant = _meant(value, annotation)
    if meant is not None:
        return did_you_mean(meant), meant
    words = type_in_words(annotation)
    return (f"expected {words}" if words else ""), None


def _meant(value: Any, annotation: Any) -> str | None:
    """Returns the TOML value that the user probably meant, such as `5` for `"5"` or `5.0`."""
    members = members_of(annotation)
    if isinstance(value, str):
        choices = [choice for member in members if get_origin(member) is Literal for choice in get_args(member)]
        if near := nearest(value, [choice for choice in choices if isinstance(choice, str)]):
            return toml_text(near)
        text = value.partition("#")[0].strip()
        text = text.lower() if text.lower() in ("true", "false") else text
        unquoted = read_scalar(text)
        if not isinstance(unquoted, str) and fits(unquoted, annotation) == "yes":
            return text
    if isinstance(value, float) and value.is_integer() and int in members:
        return str(int(value))
    if isinstance(value, int) and not isinstance(value, bool) and value in (0, 1) and bool in members:
        return toml_text(bool(value))
    if isinstance(value, int | float) and str in members:
        return toml_text(toml_text(value))
    arrays = [member for member in members if is_array(get_origin(member) or member)]
    if isinstance(value, str | int | float) and any(fits([value], member) == "yes" for member in arrays):
        return f"[{toml_text(value)}]"
    return None


def _member_in_words(annotation: Any) -> str:
    """Describes one member of a union in plain language."""
    origin = get_origin(annotation) or annotation
    if origin is Literal:
        return f"one of {', '.join(short_toml_text(choice) for choice in get_args(annotation) if choice is not None)}"
    if origin in _WORDS:
        return _WORDS[origin]
    if not isinstance(origin, type):
        return ""
    if issubclass(origin, PurePath):
        return "a string"
    if is_array(origin):
        return _array_in_words(origin, get_args(annotation))
    return "a table" if origin in MAPPINGS or dataclasses.is_dataclass(origin) else ""


def _array_in_words(origin: Any, items: tuple[Any, ...]) -> str:
    if origin is tuple and items and items[-1] is not Ellipsis:
        return f"an array of {len(items)}"
    article, _, noun = _WORDS.get(unwrap(items[0]), "").partition(" ") if items else ("", "", "")
    return f"an array of {noun}s" if article in ("a", "an") else "an array"
