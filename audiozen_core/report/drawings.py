"""Computes the geometry of small drawings in the page: intervals on an axis, and bars for the differences of files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audiozen_core.audio.spectrogram_picture import ticks


@dataclass(frozen=True, slots=True)
class Interval:
    """The positions of an interval on an axis, in percent of the width of the axis.

    Attributes:
        zero: the position of zero.
        mean: the position of the mean.
        low: the position of the lower end of the interval; equal to `mean` if there is no interval.
        high: the position of the upper end; equal to `mean` if there is no interval.
    """

    zero: float
    mean: float
    low: float
    high: float


def axis_of(values: Iterable[float]) -> tuple[float, float]:
    """Returns the ends of an axis that includes zero and all finite values, with a small margin at both ends."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min([0.0, *finite]), max([0.0, *finite])
    space = (high - low or 1.0) * 0.06
    return low - space, high + space


def place_interval(axis: tuple[float, float], mean: float, low: float, high: float) -> Interval | None:
    """Computes the positions of a mean and its interval on an axis. Returns None if the mean is not finite.

    Args:
        axis: the values at the ends of the axis.
        mean: the mean.
        low: the lower end of the interval; NaN if there is no interval.
        high: the upper end of the interval; NaN if there is no interval.
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
    """A bar for the difference of each file, from the worst to the best, as SVG paths in a box of 1000 x 1000.

    Attributes:
        better: the path of the bars of files that are better.
        worse: the path of the bars of files that are worse.
        zero: the vertical position of zero, measured from the top.
        marks: the tick marks of the axis: vertical position and text.
    """

    better: str
    worse: str
    zero: float
    marks: tuple[tuple[float, str], ...]


def sorted_bars(improvements: Sequence[float], axis: tuple[float, float]) -> SortedBars:
    """Draws a bar for the improvement of each file.

    Args:
        improvements: one or more improvements, from the worst to the best.
        axis: the values at the lower and the upper end of the axis.
    """
    low, high = axis
    scale = 1000 / (high - low)
    width = 1000 / len(improvements)

    def height(value: float) -> float:
        return round((high - value) * scale, 1)

    def path(bars: Sequence[tuple[int, float]]) -> str:
        gap = width * 0.12
        return "".join(
            f"M{round(index * width + gap, 2)} {height(0)}V{height(value)}"
            f"H{round((index + 1) * width - gap, 2)}V{height(0)}Z"
            for index, value in bars
        )

    numbered = list(enumerate(improvements))
    return SortedBars(
        path([(index, value) for index, value in numbered if value > 0]),
        path([(index, value) for index, value in numbered if value < 0]),
        height(0),
        tuple((height(mark), f"{mark:+g}".replace("-", "\u2212") if mark else "0") for mark in _marks(low, high)),
    )


def _marks(low: float, high: float) -> list[float]:
    upper = [mark for mark in ticks(high, 3) if mark <= high] if high > 0 else []
    step = upper[1] if len(upper) > 1 else high
    lower = [-mark for mark in ticks(-low, 3) if 0 < mark <= -low] if low < 0 else []
    # Both sides use the step of the larger side, so that the marks do not crowd around zero.
    if -low > high and lower:
        step = -lower[0]
    count_above = math.floor(high / step) if step > 0 else 0
    count_below = math.floor(-low / step) if step > 0 else 0
    return [round(index * step, 10) for index in range(-count_below, count_above + 1)]
