"""Formats lists of names, counts with a noun, and pronouns, for messages. Long lists are shortened."""

from __future__ import annotations

from collections.abc import Iterable


def listed(names: Iterable[object], most: int = 8) -> str:
    """Returns the first names, and the number of the remaining names.

    Example:
        >>> listed(["a", "b", "c"]), listed("abcdef", most=2)
        ('a, b, c', 'a, b, and 4 more')
    """
    texts = list(map(str, names))
    more = [f"and {len(texts) - most} more"] if len(texts) > most else []
    return ", ".join([*texts[:most], *more])


def plural(count: int, word: str) -> str:
    """Formats a number with a noun in the singular or plural.

    Example:
        >>> plural(1, "file"), plural(2, "file")
        ('1 file', '2 files')
    """
    return f"{count:,} {word}{'s' * (count != 1)}"


def pronoun(count: int) -> str:
    """Returns the pronoun for a number of things.

    Example:
        >>> pronoun(1), pronoun(2)
        ('it', 'them')
    """
    return "it" if count == 1 else "them"
