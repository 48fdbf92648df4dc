"""Names that a mistyped one was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice

# Beyond these a search would take long and find nothing that was meant.
_LONGEST = 80
_MOST = 1000


def near_names(word: str, known: Iterable[str], limit: int = 3) -> tuple[str, ...]:
    """The known names nearest to a word, best first; case, `-` and `_` count for little.

    Args:
        word: what was written.
        known: the names to choose from.
        limit: the most names to give.

    Example:
        >>> near_names("SoftDTW", ["soft_dtw", "si_snr", "sdnn"])
        ('soft_dtw',)
    """
    if len(word) > _LONGEST:
        return ()
    folded: dict[str, list[str]] = {}
    for name in dict.fromkeys(islice(known, _MOST)):
        folded.setdefault(_fold(name), []).append(name)
    keys = difflib.get_close_matches(_fold(word), list(folded), n=limit, cutoff=0.65)
    names = [
        name for key in keys for name in sorted(folded[key], key=lambda name: -_likeness(word, name)) if name != word
    ]
    return tuple(names[:limit])


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name nearest to a word, if any is like it at all.

    Example:
        >>> nearest("weight_decy", ["lr", "weight_decay"])
        'weight_decay'
        >>> nearest("banana", ["lr", "weight_decay"]) is None
        True
    """
    return next(iter(near_names(word, known, 1)), None)


def did_you_mean(names: tuple[str, ...]) -> str:
    """The question to ask at the caret, or "" where there is nothing near."""
    return f"did you mean `{names[0]}`?" if names else ""


def _fold(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _likeness(word: str, name: str) -> float:
    return difflib.SequenceMatcher(None, word, name).ratio()
