"""Checks of a trainer's arguments, beyond their types."""

from __future__ import annotations

import math
from typing import TypeVar

from audiozen_core.errors import RunError

_Number = TypeVar("_Number", int, float, int | None, float | None)


def above(limit: int, **argument: _Number) -> _Number:
    """Checks an argument, which is passed by its name, and returns its value. None is always accepted.

    Raises:
        RunError: the value is not greater than the limit, or not finite.

    Example:
        >>> above(0, overlap_seconds=0.5)
        0.5
    """
    ((name, value),) = argument.items()
    if value is not None and not limit < value < math.inf:
        raise _out_of_range(name, value, f"above {limit}, and finite")
    return value


def _out_of_range(name: str, value: float, wanted: str) -> RunError:
    return RunError(f"`{name}` is {value}, but must be {wanted}", remedy=f"set {name} in [trainer.args]")
