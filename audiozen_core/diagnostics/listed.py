"""Lists names in messages: the first ones, and how many there are besides."""

from __future__ import annotations

from collections.abc import Iterable


def listed(names: Iterable[object], most: int = 8) -> str:
    """Lists the first names, and counts the others.

    Example:
        >>> listed(["a", "b", "c"]), listed("abcdef", most=2)
        ('a, b, c', 'a, b, and 4 more')
    """
    texts = list(map(str, names))
    more = [f"and {len(texts) - most} more"] if len(texts) > most else []
    return ", ".join([*texts[:most], *more])
