"""Reads the curves of a run from `metrics.jsonl`, with a limited number of points. Does not import torch."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiozen_core.results.metric_records import FILE, read_records

_MOST_POINTS = 1200
_NOT_VALUES = ("time", "epoch", "step", "checkpoint")


@dataclass(frozen=True, slots=True)
class ScalarCurve:
    """The values of one scalar over the course of training.

    Attributes:
        name: the name of the scalar in records, such as `train/loss`.
        steps: the optimiser step of each point.
        epochs: the epoch of each point, with a fraction for points within an epoch. An unfinished epoch is assumed to
            be as long as the previous epoch. An unfinished first epoch is assumed to end with its last record.
        values: the value of each point; NaN if the value was not finite.
        recorded: the number of recorded values. Long curves have fewer points.
        not_finite: the number of recorded values that were not finite.
    """

    name: str
    steps: tuple[int, ...]
    epochs: tuple[float, ...]
    values: tuple[float, ...]
    recorded: int
    not_finite: int


def read_history(folder: Path) -> dict[str, ScalarCurve]:
    """Reads the curves of a run, by name. The result is empty if the run has no records yet.

    Three things are ignored: records of tests, records of validations that are not part of training, and a line that is
    still being written.
    """
    points: dict[str, dict[int, float]] = {}
    ends: dict[int, int] = {}  # the last step of each epoch
    ended = set()
    for record in _training_records(folder):
        step, epoch = record["step"], record["epoch"]
        ends[epoch] = max(step, ends.get(epoch, 0))
        if any(name.startswith("train/") for name in record):
            ended.add(epoch)
        for name, value in record.items():
            if name not in _NOT_VALUES and not name.startswith(("test/", "predict/")):
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                # A step that was repeated after a rollback has two records. The later record replaces the earlier one.
                points.setdefault(name, {})[step] = float(value) if is_number else math.nan
    ends = _with_running_epoch(ends, ended)
    return {name: _curve(name, values, ends) for name, values in points.items()}


def _training_records(folder: Path) -> Iterator[dict[str, Any]]:
    with suppress(OSError):
        for record in read_records(folder / FILE):
            # A record with a checkpoint comes from an evaluation that is not part of training.
            if "checkpoint" not in record and all(isinstance(record.get(name), int) for name in ("step", "epoch")):
                yield record


def _curve(name: str, points: Mapping[int, float], ends: Mapping[int, int]) -> ScalarCurve:
    steps = sorted(points)
    values = [points[step] for step in steps]
    not_finite = sum(not math.isfinite(value) for value in values)
    kept = _thinned(values)
    return ScalarCurve(
        name,
        tuple(steps[index] for index in kept),
        tuple(_epoch_of([steps[index] for index in kept], ends)),
        tuple(values[index] for index in kept),
        len(steps),
        not_finite,
    )


def _thinned(values: Sequence[float]) -> list[int]:
    """Returns the indices of the points to draw: the minimum and the maximum of each interval, to preserve peaks."""
    count = len(values)
    if count <= _MOST_POINTS:
        return list(range(count))
    kept = {0, count - 1}
    intervals = _MOST_POINTS // 2
    for interval in range(intervals):
        indices = range(interval * count // intervals, (interval + 1) * count // intervals)
        finite = [index for index in indices if math.isfinite(values[index])]
        kept |= {min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)} if finite else {indices[0]}
    return sorted(kept)


def _epoch_of(steps: Sequence[int], ends: Mapping[int, int]) -> list[float]:
    """Returns the epoch of each step as a number: 1.5 is the middle of the second epoch."""
    epochs = sorted(ends)
    last_steps = [ends[epoch] for epoch in epochs]
    fractional = []
    for step in steps:
        index = bisect_left(last_steps, step)
        if index == len(last_steps):
            fractional.append(float(epochs[-1]))
            continue
        before_step, before_epoch = (last_steps[index - 1], epochs[index - 1]) if index else (0, epochs[0] - 1)
        fraction = (step - before_step) / (last_steps[index] - before_step) if last_steps[index] > before_step else 1.0
        fractional.append(before_epoch + fraction * (epochs[index] - before_epoch))
    return [round(epoch, 4) for epoch in fractional]


def _with_running_epoch(ends: Mapping[int, int], ended: Collection[int]) -> dict[int, int]:
    """Returns the last step of each epoch. An unfinished epoch is assumed to be as long as the previous epoch."""
    result = dict(ends)
    newest, before = max(ends, default=0), max(ends, default=0) - 1
    if newest not in ended and before in ends:
        length = ends[before] - ends.get(before - 1, 0)
        result[newest] = max(ends[newest], ends[before] + length)
    return result
