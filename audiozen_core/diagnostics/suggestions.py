"""Suggests known names for a mistyped name."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from audiozen_core.diagnostics.synonyms import WITHOUT_COUNTERPART, fold, meaning

# Longer words and more names would take too long, and would rarely lead to a good suggestion.
_MAX_LENGTH = 80
_MAX_NAMES = 1000


def similar_names(word: str, known: Iterable[str], limit: int = 3) -> tuple[str, ...]:
    """Returns the known names that are most similar to a word, best first. Ignores case, `-` and `_` at first.

    Example:
        >>> similar_names("SoftDTW", ["soft_dtw", "si_snr", "sdnn"])
        ('soft_dtw',)
    """
    if len(word) > _MAX_LENGTH:
        return ()
    import difflib

    folded: dict[str, list[str]] = {}
    for name in dict.fromkeys(islice(known, _MAX_NAMES)):
        if name != word:
            folded.setdefault(fold(name), []).append(name)
    keys = difflib.get_close_matches(fold(word), list(folded), n=limit, cutoff=0.65)
    # Names that differ only in case, `-` and `_` have the same key, so rank them by their original spelling.
    names = (name for key in keys for name in difflib.get_close_matches(word, folded[key], n=limit, cutoff=0))
    return tuple(islice(names, limit))


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Returns the known name that corresponds to a word of another toolkit, or else the most similar known name.

    Returns None if no name is similar enough, or if the word is known to have no counterpart in AudioZEN.

    Example:
        >>> nearest("weight_decy", ["lr", "weight_decay"])
        'weight_decay'
        >>> nearest("fs", ["sr", "n_fft"]), nearest("banana", ["lr", "weight_decay"])
        ('sr', None)
    """
    if fold(word) in WITHOUT_COUNTERPART:
        return None
    known = list(islice(known, _MAX_NAMES))
    return meaning(word, known) or next(iter(similar_names(word, known, 1)), None)


def is_slip(word: str, known: str) -> bool:
    """Returns whether a word is almost certainly a misspelt known name: one letter differs, or two letters are swapped.

    A longer word that begins with the known name does not count, because it may be a different name.

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
    """Returns the question "did you mean …?" for a label or a help note; "" for None."""
    return f"did you mean `{text}`?" if text else ""
