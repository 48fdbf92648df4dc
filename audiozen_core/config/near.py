"""Near names, for "did you mean"."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice

# Beyond these a search would take long and find nothing that was meant.
_LONGEST = 80
_MOST = 1000


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like the name, if any is like it at all.

    Example:
        >>> nearest("weight_decy", ["lr", "weight_decay"])
        'weight_decay'
        >>> nearest("banana", ["lr", "weight_decay"]) is None
        True
    """
    if len(name) > _LONGEST:
        return None
    pool = [candidate for candidate in islice(candidates, _MOST) if candidate != name]
    folded = {candidate.lower(): candidate for candidate in reversed(pool)}
    matches = get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return folded[matches[0]] if matches else None
