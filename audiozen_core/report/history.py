"""The curves of a run: what `metrics.jsonl` has, thinned to what a picture can show. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
        epochs: the epoch of each point; within an epoch, as a fraction of it.
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
    for record in _training_records(folder):
        step, epoch = record["step"], record["epoch"]
        ends[epoch] = max(step, ends.get(epoch, 0))
        for name, value in record.items():
            if name not in _NOT_VALUES and not name.startswith(("test/", "predict/")):
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                # A step that was repeated after a rollback has two records, of which the later one counts.
                points.setdefault(name, {})[step] = float(value) if is_number else math.nan
    return {name: _curve(name, of, ends) for name, of in points.items()}


def _training_records(folder: Path) -> Iterator[dict[str, Any]]:
    with suppress(OSError):
        for record in read_records(folder / FILE):
            # That of a validation that ran alone names its checkpoint.
            if "checkpoint" not in record and all(isinstance(record.get(name), int) for name in ("step", "epoch")):
                yield record


def _curve(name: str, points: dict[int, float], ends: dict[int, int]) -> Curve:
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


def _epoch_of(steps: Sequence[int], ends: dict[int, int]) -> list[float]:
    """Returns the epoch of each step as a number: 1.5 is the middle of the second epoch."""
    knots = sorted(ends.items())
    found = []
    for step in steps:
        before_step, before_epoch = 0, (knots[0][0] - 1 if knots else 0)
        for epoch, end in knots:
            if step <= end:
                width = end - before_step
                found.append(before_epoch + (step - before_step) / width * (epoch - before_epoch) if width else epoch)
                break
            before_step, before_epoch = end, epoch
        else:
            found.append(float(before_epoch))
    return [round(epoch, 4) for epoch in found]
