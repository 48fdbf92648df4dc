"""Names that a mistyped one was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 80


def near_names(word: str, known: Iterable[str], limit: int = 3) -> tuple[str, ...]:
    """The known names nearest to a word, best first; case, `-` and `_` count for little.

    Args:
        word: what was written.
        known: the names to choose from.
        limit: the most names to give.

    >>> near_names("SoftDTW", ["soft_dtw", "si_snr", "sdnn"])
    ('soft_dtw',)
    """
    if len(word) > _LONGEST:
        return ()
    folded: dict[str, list[str]] = {}
    for name in dict.fromkeys(known):
        folded.setdefault(_fold(name), []).append(name)
    keys = difflib.get_close_matches(_fold(word), list(folded), n=limit, cutoff=0.65)
    names = [
        name for key in keys for name in sorted(folded[key], key=lambda name: -_likeness(word, name)) if name != word
    ]
    return tuple(names[:limit])


def did_you_mean(names: tuple[str, ...]) -> str:
    """The question to ask at the caret, or "" where there is nothing near."""
    return f"did you mean `{names[0]}`?" if names else ""


def _fold(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _likeness(word: str, name: str) -> float:
    return difflib.SequenceMatcher(None, word, name).ratio()
