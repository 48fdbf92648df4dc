r"""Converts file names to text that can be printed and encoded.

A file name on Linux is a sequence of bytes. Python represents bytes that are not UTF-8 as lone surrogates. Encoders
reject surrogates, so printing or writing such a name would raise an error.
"""

from __future__ import annotations

import re

_SURROGATE = re.compile("[\ud800-\udfff]")

# File systems allow names of 255 bytes. The difference is reserved for endings such as `_enhanced.wav`.
_MAX_BYTES = 230


def printable(text: str) -> str:
    r"""Replaces the bytes of a file name that are not UTF-8 by escapes.

    Example:
        >>> import os
        >>> print(printable(os.fsdecode(b"caf\xe9.wav")))
        caf\xe9.wav
    """
    return _SURROGATE.sub(_escape, text)


def is_printable(text: str) -> bool:
    r"""Returns whether a string can be encoded, that is, whether all bytes of a file name are UTF-8.

    Example:
        >>> import os
        >>> is_printable("café.wav"), is_printable(os.fsdecode(b"caf\xe9.wav"))
        (True, False)
    """
    return not _SURROGATE.search(text)


def _escape(match: re.Match[str]) -> str:
    number = ord(match.group())
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else f"\\u{number:04x}"


def fit_for_file(name: str) -> str:
    """Shortens each part of a relative path that is too long for a file name, and leaves room for an ending.

    The end of a long part is replaced by a hash of the whole name, so that different names stay different.

    Example:
        >>> fit_for_file("a/short.name"), fit_for_file("a/" + 100 * "long ")[-20:]
        ('a/short.name', 'long long l~31909dab')
    """
    import hashlib  # imported here, because the import is slow

    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return "/".join(
        part
        if len(part.encode("utf-8", "surrogatepass")) <= _MAX_BYTES
        else f"{cut_bytes(part, _MAX_BYTES - 9)}~{digest}"
        for part in name.split("/")
    )


def cut_bytes(text: str, most: int) -> str:
    """Returns the beginning of a string that fits into `most` bytes of UTF-8.

    Example:
        >>> cut_bytes("größe", 4)
        'grö'
    """
    return text.encode("utf-8", "surrogatepass")[:most].decode("utf-8", "ignore")
