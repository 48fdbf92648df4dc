"""The curves of a run: what `metrics.jsonl` has, thinned to what a picture can show. No torch."""

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
class Curve:
    """One scalar of a run over the training.

    Attributes:
        name: its name in records, such as `train/loss`.
        steps: the optimiser step of each point.
        epochs: the epoch of each point; within an epoch, as a fraction of it. An epoch that still runs counts as long
            as the one before it; the length of a first one is not known, so it ends with its last record.
        values: the values; NaN for one that was not finite.
        recorded: the number of records, of which the points are a part.
        not_finite: how many of them were not finite.
    """

    name: str
    steps: tuple[int, ...]
    epochs: tuple[float, ...]
    values: tuple[float, ...]
    recorded: int
    not_finite: int


def read_history(folder: Path) -> dict[str, Curve]:
    """Reads the curves of a run, by name; nothing if it has no records yet.

    Records of tests, and of a validation that ran alone, are points of no curve. A line that is still being written is
    left out.
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
                # A step that was repeated after a rollback has two records, of which the later one counts.
                points.setdefault(name, {})[step] = float(value) if is_number else math.nan
    ends = _with_running_epoch(ends, ended)
    return {name: _curve(name, of, ends) for name, of in points.items()}


def _training_records(folder: Path) -> Iterator[dict[str, Any]]:
    with suppress(OSError):
        for record in read_records(folder / FILE):
            # That of a validation that ran alone names its checkpoint.
            if "checkpoint" not in record and all(isinstance(record.get(name), int) for name in ("step", "epoch")):
                yield record


def _curve(name: str, points: Mapping[int, float], ends: Mapping[int, int]) -> Curve:
    steps = sorted(points)
    values = [points[step] for step in steps]
    missing = sum(not math.isfinite(value) for value in values)
    kept = _thinned(values)
    return Curve(
        name,
        tuple(steps[place] for place in kept),
        tuple(_epoch_of([steps[place] for place in kept], ends)),
        tuple(values[place] for place in kept),
        len(steps),
        missing,
    )


def _thinned(values: Sequence[float]) -> list[int]:
    """Returns which points are shown: of each stretch its least and its greatest value, so that no peak disappears."""
    count = len(values)
    if count <= _MOST_POINTS:
        return list(range(count))
    kept = {0, count - 1}
    stretches = _MOST_POINTS // 2
    for index in range(stretches):
        places = range(index * count // stretches, (index + 1) * count // stretches)
        finite = [place for place in places if math.isfinite(values[place])]
        kept |= {min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)} if finite else {places[0]}
    return sorted(kept)


def _epoch_of(steps: Sequence[int], ends: Mapping[int, int]) -> list[float]:
    """Returns the epoch of each step as a number: 1.5 is the middle of the second epoch."""
    epochs = sorted(ends)
    knots = [ends[epoch] for epoch in epochs]
    found = []
    for step in steps:
        place = bisect_left(knots, step)
        if place == len(knots):
            found.append(float(epochs[-1]))
            continue
        before_step, before_epoch = (knots[place - 1], epochs[place - 1]) if place else (0, epochs[0] - 1)
        part = (step - before_step) / (knots[place] - before_step) if knots[place] > before_step else 1.0
        found.append(before_epoch + part * (epochs[place] - before_epoch))
    return [round(epoch, 4) for epoch in found]


def _with_running_epoch(ends: Mapping[int, int], ended: Collection[int]) -> dict[int, int]:
    """Returns the last step of each epoch, where one that still runs counts as long as the one before it."""
    found = dict(ends)
    newest, before = max(ends, default=0), max(ends, default=0) - 1
    if newest not in ended and before in ends:
        length = ends[before] - ends.get(before - 1, 0)
        found[newest] = max(ends[newest], ends[before] + length)
    return found
