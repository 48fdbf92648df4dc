"""The place of a value in a TOML document: a tuple of keys and, inside arrays, of indices."""

from __future__ import annotations

import re

KeyPath = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def quote(text: str) -> str:
    r"""The text as a basic string of TOML, on one line.

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
    """One key as TOML writes it: bare where that is allowed, else quoted."""
    return key if _BARE.fullmatch(key) else quote(key)


def spell(key_path: KeyPath) -> str:
    """The key path as a user would write it.

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
