"""Parses and formats key paths. A key path is a tuple of keys and indices that locates a value in a TOML file."""

from __future__ import annotations

import re

KeyPath = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def quote(text: str) -> str:
    r"""Returns a string as a basic string of TOML, on one line.

    Example:
        >>> print(quote('say "hi"'))
        "say \"hi\""
    """
    return '"' + "".join(_escape(character) for character in text) + '"'


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return character if character.isprintable() else f"\\U{ord(character):08x}"


def spell_key(key: str) -> str:
    """Returns a key as TOML, with quotes only if TOML requires them."""
    return key if _BARE.fullmatch(key) else quote(key)


def spell(key_path: KeyPath) -> str:
    """Returns the key path as a user would write it.

    Example:
        >>> spell(("validate_dataset", 0, "args", "my root"))
        'validate_dataset[0].args."my root"'
    """
    text = ""
    for part in key_path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{spell_key(part)}" if text else spell_key(part)
    return text


_PART = re.compile(
    r"""\s*(?P<part>(?P<bare>[A-Za-z0-9_-]+)|(?P<basic>"(?:[^"\\\n]|\\.)*")|'(?P<literal>[^'\n]*)'|\[(?P<index>[0-9]+)\])\s*"""
)


def match_key_path(text: str, start: int = 0) -> tuple[list[tuple[str | int, tuple[int, int]]], int]:
    """Parses a key path at the start of a string from the command line or a reference.

    Entries of an array are named by index, as in `validate_dataset.0.args` or `validate_dataset[0].args`. Only a part
    such as `[0]` becomes an integer, because a bare number can be an index or a key.

    Returns:
        Each part of the key path with its start and end in the text, and the end of the key path.

    Raises:
        ValueError: the text at `start` is not a key path.
    """
    parts: list[tuple[str | int, tuple[int, int]]] = []
    position = start
    while match := _PART.match(text, position):
        part: str | int = match["bare"] or match["literal"] or ""
        if match["index"]:
            part = int(match["index"][:9])
        elif match["basic"]:
            import tomli

            part = str(tomli.loads(f"key = {match['basic']}")["key"])
        parts.append((part, match.span("part")))
        position = match.end()
        if text.startswith(".", position):
            position += 1
        elif not text.startswith("[", position):
            return parts, position
    raise ValueError(f"no key at character {position + 1}")


def parse_key_path(text: str) -> KeyPath:
    """Parses a string that consists of exactly one key path.

    Raises:
        ValueError: the text is not a key path.

    Example:
        >>> parse_key_path('validate_dataset[0].args."my root"')
        ('validate_dataset', 0, 'args', 'my root')
    """
    parts, end = match_key_path(text)
    if end < len(text):
        raise ValueError(f"no key at character {end + 1}")
    return tuple(part for part, _ in parts)


def as_index(part: str | int) -> int | None:
    """Returns a part of a key path as an index, such as `0` in `validate_dataset.0.args`; None if it is not one."""
    if isinstance(part, int):
        return part
    return int(part) if re.fullmatch("[0-9]{1,9}", part) else None
