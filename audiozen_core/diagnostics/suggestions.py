"""Suggests known names for a mistyped one."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from audiozen_core.diagnostics.synonyms import WITHOUT_COUNTERPART, fold, meaning

# Longer words and more names would take too long, and would rarely give a good suggestion.
_LONGEST = 80
_MOST = 1000


def similar_names(word: str, known: Iterable[str], limit: int = 3) -> tuple[str, ...]:
    """The known names that are most similar to a word, best first. Differences in case, `-` and `_` count little.

    Example:
        >>> similar_names("SoftDTW", ["soft_dtw", "si_snr", "sdnn"])
        ('soft_dtw',)
    """
    if len(word) > _LONGEST:
        return ()
    import difflib

    folded: dict[str, list[str]] = {}
    for name in dict.fromkeys(islice(known, _MOST)):
        if name != word:
            folded.setdefault(fold(name), []).append(name)
    keys = difflib.get_close_matches(fold(word), list(folded), n=limit, cutoff=0.65)
    # Names that differ only in case, `-` and `_` have one key.
    names = (name for key in keys for name in difflib.get_close_matches(word, folded[key], n=limit, cutoff=0))
    return tuple(islice(names, limit))


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Returns the known name that a word of another toolkit stands for, or else the most similar one.

    Returns None if no name is similar enough, or if the word is known to mean something else.

    Example:
        >>> nearest("weight_decy", ["lr", "weight_decay"])
        'weight_decay'
        >>> nearest("fs", ["sr", "n_fft"]), nearest("banana", ["lr", "weight_decay"])
        ('sr', None)
    """
    if fold(word) in WITHOUT_COUNTERPART:
        return None
    known = list(islice(known, _MOST))
    return meaning(word, known) or next(iter(similar_names(word, known, 1)), None)


def is_slip(word: str, known: str) -> bool:
    """Whether a word is almost surely a misspelt form of a known one: one letter differs, or two have changed places.

    A longer word that begins with the known one may be the name of something else.

    >>> [is_slip(word, "tensorboard") for word in ("tensorbord", "tesnorboard", "tensorboarx", "tensorbboard")]
    [True, True, True, True]
    >>> [is_slip(word, "tensorboard") for word in ("tensorboard", "tensorboardx", "tensorbrd", "tensor")]
    [False, False, False, False]
    """
    if word == known or word.startswith(known):
        return False
    first = next((i for i, (a, b) in enumerate(zip(word, known, strict=False)) if a != b), min(len(word), len(known)))
    rest, wanted = word[first:], known[first:]
    swapped = rest[1::-1] + rest[2:]
    return rest[1:] in (wanted, wanted[1:]) or rest == wanted[1:] or (len(rest) > 1 and swapped == wanted)


def did_you_mean(text: str | None) -> str:
    """The question "did you mean …?", for a label or a help note; "" for None."""
    return f"did you mean `{text}`?" if text else ""
