"""Annotations for the range of numbers that an argument accepts."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Annotated, Any, get_args, get_origin

from audiozen_core.binding.annotations import annotated_members, is_typed_dict
from audiozen_core.binding.messages import type_in_words
from audiozen_core.binding.signature import signature_of
from audiozen_core.binding.values import annotation_below, fits, is_component, wrong_places
from audiozen_core.diagnostics.key_path import KeyPath, spell
from audiozen_core.errors import RunError


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The range of the numbers that an argument accepts, for annotations such as `Annotated[int, Range(least=1)]`.

    `audiozen check` reports a number outside the range, with its position in the file. A constructor that is also
    called from Python can reject a number outside the range with `check_ranges`. NaN and infinity are outside every
    range. The annotation may belong to an array or a table, to its entries, to a key of a `TypedDict` or a dataclass,
    or to a member of a union: `list[Annotated[float, Range(above=0)] | Literal[-1]]`.

    Args:
        least: the smallest number in the range.
        most: the largest number in the range.
        above: the lower limit of the range, which is not in the range.
        below: the upper limit of the range, which is not in the range.

    Example:
        >>> def repeat(times: Annotated[int, Range(least=1)] | None = None): ...
        >>> 0 in Range(least=0), 0 in Range(above=0), str(Range(least=0, most=1))
        (True, False, 'from 0 to 1')
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            # An integer may be too large for a float.
            (isinstance(value, int) or math.isfinite(value))
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        if self.least is not None and self.most is not None:
            return f"from {_text(self.least)} to {_text(self.most)}"
        limits = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        return " and ".join(f"{words} {_text(limit)}" for words, limit in limits.items() if limit is not None)


def _text(limit: float) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:.6g}"


Natural = Annotated[int, Range(least=0)]
"""An integer of 0 or more."""

Positive = Annotated[int, Range(least=1)]
"""An integer of 1 or more."""


def wrong_numbers(value: Any, annotation: Any, place: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Yields the place of each number that is outside the range of its annotation, and what is wrong with it.

    The description is, for example, "is 0, but must be at least 1". Numbers in arrays and tables are checked too, but
    not numbers in an instance of a dataclass. In a union, a number is accepted if one member has a matching type and
    its range contains the number. Values of a wrong type are reported by `wrong_places`, not here.

    >>> list(wrong_numbers({"sizes": [1, 0]}, dict[str, list[Positive]]))
    [(('sizes', 1), 'is 0, but must be at least 1')]
    """
    if _may_have_range(annotation):
        yield from _walk(value, annotation, place)


def _walk(value: Any, annotation: Any, place: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if is_component(value):
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(item, annotation_below(annotation, str(key)), (*place, str(key)))
    elif isinstance(value, list | tuple | set | frozenset | deque):
        for index, item in enumerate(value):
            yield from _walk(item, annotation_below(annotation, index), (*place, index))
    elif not isinstance(value, bool) and isinstance(value, Real) and (wrong := _wrong_number(value, annotation)):
        yield place, wrong


def _may_have_range(annotation: Any) -> bool:
    """Returns whether an annotation may contain a `Range`. If not, a long array of file names is not searched."""
    return any(
        ranges
        or dataclasses.is_dataclass(member)
        or is_typed_dict(get_origin(member) or member)
        or any(map(_may_have_range, get_args(member)))
        for member, ranges in annotated_members(annotation, Range)
    )


def _wrong_number(value: Any, annotation: Any) -> str | None:
    members = list(annotated_members(annotation, Range))
    fitting = [ranges for member, ranges in members if fits(value, member) in ("yes", "unknown")]
    # If a number fits no member of the union, such as `nan` for an integer, it is compared with all ranges.
    choices = fitting or [ranges for _, ranges in members if ranges]
    if not choices or any(all(value in allowed for allowed in ranges) for ranges in choices):
        return None
    wanted = " or ".join(dict.fromkeys(" and ".join(map(str, ranges)) for ranges in choices))
    finite = ", and finite" if isinstance(value, float) and not math.isfinite(value) else ""
    return f"is {value}, but must be {wanted}{finite}"


def out_of_range(target: Any, values: Mapping[str, Any]) -> str | None:
    """Describes the first value outside its range in the signature of a class or a function; None if all are inside.

    If an argument with a range has a value of another type, such as a string, this value is described too.

    Args:
        target: the class or the function.
        values: the values by argument name. Values that are not arguments are ignored.

    Example:
        >>> def repeat(times: Annotated[int, Range(least=1)]): ...
        >>> out_of_range(repeat, {"times": 0})
        '`times` is 0, but must be at least 1'
        >>> out_of_range(repeat, {"times": 1.5})
        '`times` is 1.5, but must be an integer'
    """
    signature = signature_of(target)
    for parameter in signature.parameters if signature else ():
        value, annotation, place = values.get(parameter.name), parameter.annotation, (parameter.name,)
        for wrong_place, wrong in wrong_numbers(value, annotation, place):
            return f"`{spell(wrong_place)}` {wrong}"
        for wrong_place, wrong_value, wanted in (
            wrong_places(value, annotation, place) if _may_have_range(annotation) else ()
        ):
            return f"`{spell(wrong_place)}` is {wrong_value!r}, but must be {type_in_words(wanted)}"
    return None


def check_ranges(target: Any, values: Mapping[str, Any]) -> None:
    """Checks that arguments are in their ranges. Call it first in a constructor: `check_ranges(ThisClass, locals())`.

    Args:
        target: the class or the function.
        values: the values by argument name. Values that are not arguments are ignored.

    Raises:
        RunError: a value is outside the range in its annotation.
    """
    if wrong := out_of_range(target, values):
        name = getattr(target, "__name__", type(target).__name__)
        raise RunError(f"{wrong}, for {name}", remedy="change it in the `args`, or leave it out for the default")
