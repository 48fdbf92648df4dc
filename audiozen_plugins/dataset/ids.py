"""IDs of samples. Results are named after them, so no two samples of a data set may have the same ID."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

from audiozen_core.diagnostics.printable import fit_for_file, printable

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def ids_of_files(paths: Sequence[PurePath]) -> list[str]:
    """Returns an ID for each file: its path without the ending.

    If several files differ only in the ending, their IDs keep the ending.

    Args:
        paths: different relative paths.

    Example:
        >>> ids_of_files([PurePath("a/one.wav"), PurePath("two.wav"), PurePath("two.flac"), PurePath("TWO.wav")])
        ['a/one', 'two.wav', 'two.flac', 'TWO.wav~2']
    """
    bare = [path.with_suffix("").as_posix() for path in paths]
    count = Counter(map(_fold, bare))
    return unique_ids(
        [path.as_posix() if count[_fold(name)] > 1 else name for path, name in zip(paths, bare, strict=True)]
    )


def unique_ids(names: Sequence[str]) -> list[str]:
    r"""Makes names unique, printable, and short enough for the names of files.

    A name that has occurred before gets a number at the end. Names that differ only in case, or only in the Unicode
    form of their accents, count as the same, because some file systems don't distinguish them. A `/` is kept, so the
    results of such a sample are in sub-folders. Line breaks and other control characters are replaced with escapes.

    Args:
        names: the names of the samples of a data set, in order.

    Example:
        >>> unique_ids(["a", "b", "A", "a", "a~2"])
        ['a', 'b', 'A~3', 'a~4', 'a~2']
        >>> print(*unique_ids(["two\nlines", "tab\t"]))
        two\x0alines tab\x09
    """
    names = [fit_for_file(_CONTROL.sub(_escape, printable(name))) for name in names]
    given = set(map(_fold, names))
    used: set[str] = set()
    numbers: dict[str, int] = {}  # the last number of each name that has occurred before
    unique = []
    for name in names:
        folded = _fold(name)
        number, candidate, key = numbers.get(folded, 1), name, folded
        while key in used or (number > 1 and key in given):
            number += 1
            candidate = f"{name}~{number}"
            key = _fold(candidate)
        used.add(key)
        numbers[folded] = number
        unique.append(candidate)
    return unique


def _escape(match: re.Match[str]) -> str:
    number = ord(match.group())
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
