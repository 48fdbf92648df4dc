"""Checks of a trainer's arguments that their types can't make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from audiozen_core.errors import RunError

_Number = TypeVar("_Number", int, float, int | None, float | None)


def at_least(least: int, **argument: _Number) -> _Number:
    """The argument's value; None is left alone.

    Raises:
        RunError: it is less than `least`.

    Example:
        >>> at_least(1, patience=3)
        3
    """
    ((name, value),) = argument.items()
    if value is not None and value < least:
        raise RunError(f"`{name}` is {value}, but must be at least {least}", remedy=f"set {name} in [trainer.args]")
    return value


def one_of(known: Sequence[str], **argument: str) -> None:
    """Refuses a word that is not known.

    Raises:
        RunError: not one of `known`.
    """
    ((name, value),) = argument.items()
    if value not in known:
        raise RunError(f"`{name}` is {value!r}", remedy=f"use one of {', '.join(known)} in [trainer.args]")
