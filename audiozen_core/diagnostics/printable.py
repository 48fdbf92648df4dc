r"""File names as text that can be printed and encoded.

A name on Linux is a row of bytes. Python keeps the bytes that are not UTF-8 as lone surrogates, which no encoder
accepts, so that printing or writing the name would raise an error.
"""

from __future__ import annotations

import re

_SURROGATE = re.compile("[\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Replaces the bytes of a file name that are not UTF-8 by escapes.

    Example:
        >>> import os
        >>> print(printable(os.fsdecode(b"caf\xe9.wav")))
        caf\xe9.wav
    """
    return _SURROGATE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    number = ord(match.group())
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else f"\\u{number:04x}"
