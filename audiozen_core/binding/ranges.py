"""The numbers that an argument takes, which its annotation says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from audiozen_core.binding.annotations import metadata_of
from audiozen_core.binding.signature import signature_of
from audiozen_core.errors import RunError


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Says in an annotation which numbers an argument takes: `Annotated[int, Range(least=1)]`.

    `audiozen check` reports another number at its position. A constructor that is also called from Python refuses it
    with `check_ranges`. No range has NaN or infinity.

    Args:
        least: the smallest number of the range.
        most: the largest number of the range.
        above: a number that all numbers of the range exceed.

    Example:
        >>> def repeat(times: Annotated[int, Range(least=1)] | None = None): ...
        >>> 0 in Range(least=0), 0 in Range(above=0), str(Range(least=0, most=1))
        (True, False, 'from 0 to 1')
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            # An integer may be too large for a float.
            (isinstance(value, int) or math.isfinite(value))
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
        )

    def __str__(self) -> str:
        if self.least is not None and self.most is not None:
            return f"from {self.least:.6g} to {self.most:.6g}"
        limits = {"at least": self.least, "above": self.above, "at most": self.most}
        return " and ".join(f"{words} {limit:.6g}" for words, limit in limits.items() if limit is not None)


Natural = Annotated[int, Range(least=0)]
"""An integer of 0 or more."""

Positive = Annotated[int, Range(least=1)]
"""An integer of 1 or more."""


def wrong_number(value: Any, annotation: Any) -> str | None:
    """Says that a number is not in the range of an annotation, such as "is 0, but must be at least 1"; None if it is.

    A value that is not a number is accepted: its type is another matter.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    for allowed in metadata_of(annotation, Range):
        if value not in allowed:
            finite = ", and finite" if isinstance(value, float) and not math.isfinite(value) else ""
            return f"is {value}, but must be {allowed}{finite}"
    return None


def out_of_range(target: Any, values: Mapping[str, Any]) -> str | None:
    """Says which value is not in the range that the signature of a class or a function gives; None if all are.

    Args:
        target: the class or the function.
        values: the values by the names of the arguments; others are ignored.

    Example:
        >>> def repeat(times: Annotated[int, Range(least=1)]): ...
        >>> out_of_range(repeat, {"times": 0})
        '`times` is 0, but must be at least 1'
    """
    signature = signature_of(target)
    for parameter in signature.parameters if signature else ():
        if wrong := wrong_number(values.get(parameter.name), parameter.annotation):
            return f"`{parameter.name}` {wrong}"
    return None


def check_ranges(target: Any, values: Mapping[str, Any]) -> None:
    """Checks the arguments of a constructor: `check_ranges(ThisClass, locals())`.

    Args:
        target: the class or the function.
        values: the values by the names of the arguments; others are ignored.

    Raises:
        RunError: a value is not in the range that its annotation gives.
    """
    if wrong := out_of_range(target, values):
        name = getattr(target, "__name__", type(target).__name__)
        raise RunError(f"{wrong}, for {name}", remedy="change it in the `args`, or leave it out for the default")
