"""Small drawings as data for the templates: intervals on a common axis, and differences file by file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audiozen_core.audio.spectrogram_picture import ticks


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval on an axis, in percent of its width.

    Attributes:
        zero: where zero is.
        mean: where the mean is.
        low: where the interval begins; the mean itself where no interval is known.
        high: where it ends.
    """

    zero: float
    mean: float
    low: float
    high: float


def axis_of(values: Iterable[float]) -> tuple[float, float]:
    """Returns the ends of an axis that has zero and all finite values on it, with a little space at both ends."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min([0.0, *finite]), max([0.0, *finite])
    space = (high - low or 1.0) * 0.06
    return low - space, high + space


def place_interval(axis: tuple[float, float], mean: float, low: float, high: float) -> Interval | None:
    """Places a mean and its interval on an axis; None without a mean.

    Args:
        axis: the values at its ends.
        mean: the mean.
        low: the lower end of the interval; NaN if there is none.
        high: the upper end.
    """
    if not math.isfinite(mean):
        return None

    def place(value: float) -> float:
        return round(100 * (value - axis[0]) / (axis[1] - axis[0]), 2)

    has_interval = math.isfinite(low) and math.isfinite(high)
    return Interval(
        place(0), place(mean), place(low) if has_interval else place(mean), place(high) if has_interval else place(mean)
    )


@dataclass(frozen=True, slots=True)
class SortedBars:
    """The differences of all files, from the worst to the best, as two outlines in a box of 1000 x 1000.

    Attributes:
        better: the outline of the bars of files that are better.
        worse: the outline of those that are worse.
        zero: the height of zero, from the top.
        marks: heights and texts of the marks of the axis.
    """

    better: str
    worse: str
    zero: float
    marks: tuple[tuple[float, str], ...]


def sorted_bars(improvements: Sequence[float], axis: tuple[float, float]) -> SortedBars:
    """Draws the improvements of files.

    Args:
        improvements: at least one, from the worst to the best.
        axis: the values at the lower and the upper end of the axis.
    """
    low, high = axis
    scale = 1000 / (high - low)
    width = 1000 / len(improvements)

    def height(value: float) -> float:
        return round((high - value) * scale, 1)

    def outline(of: Sequence[tuple[int, float]]) -> str:
        gap = width * 0.12
        return "".join(
            f"M{round(place * width + gap, 2)} {height(0)}V{height(value)}"
            f"H{round((place + 1) * width - gap, 2)}V{height(0)}Z"
            for place, value in of
        )

    numbered = list(enumerate(improvements))
    return SortedBars(
        outline([(place, value) for place, value in numbered if value > 0]),
        outline([(place, value) for place, value in numbered if value < 0]),
        height(0),
        tuple((height(mark), f"{mark:+g}".replace("-", "\u2212") if mark else "0") for mark in _marks(low, high)),
    )


def _marks(low: float, high: float) -> list[float]:
    upper = [mark for mark in ticks(high, 3) if mark <= high] if high > 0 else []
    step = upper[1] if len(upper) > 1 else high
    lower = [-mark for mark in ticks(-low, 3) if 0 < mark <= -low] if low < 0 else []
    # Both sides have the step of the larger one, so that the marks do not crowd around zero.
    if -low > high and lower:
        step = -lower[0]
    count = math.floor(high / step) if step > 0 else 0
    below = math.floor(-low / step) if step > 0 else 0
    return [round(index * step, 10) for index in range(-below, count + 1)]
