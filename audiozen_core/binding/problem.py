"""A finding about an object that a TOML names, or about one of its arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ProblemKind = Literal[
    "unknown_argument",
    "missing_argument",
    "injected_argument",
    "positional_only",
    "wrong_type",
    "not_callable",
    "wrong_kind",
    "abstract",
]

Place = tuple[str | int, ...]
"""Keys and indices, from the arguments inwards, such as `("betas", 1)`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about an object that a TOML names, or about an argument that is given to it.

    Attributes:
        kind: what kind of finding it is.
        message: what is wrong, in one line; names stand in backticks.
        argument: the name of the argument, or None where the finding is about the object itself.
        where: the place below `args`: the argument's name, then keys and list indices inside its value, such as
            `("betas", 1)`. For a missing argument it is the table that lacks it: empty for `args` itself.
        label: what to say at the caret, such as "did you mean `weight_decay`?"; may be empty.
        suggestion: the text that would be right in the TOML (a key for an unknown argument, a TOML value for a wrong
            one), if one is known.
        signature: the target's signature as one line, or "" where it can't be read.
    """

    kind: ProblemKind
    message: str
    argument: str | None = None
    where: Place = ()
    label: str = ""
    suggestion: str | None = None
    signature: str = ""


def spelled(place: Place) -> str:
    """A place as one would write it.

    >>> spelled(("encoder", "sizes", 2))
    'encoder.sizes[2]'
    """
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
