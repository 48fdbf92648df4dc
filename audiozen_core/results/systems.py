"""The scores of one system, which has one or more runs, and what identifies its metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from audiozen_core.errors import DataError
from audiozen_core.results.records import FileScores, MetricInfo
from audiozen_core.results.scores import Scores

_DEFINING = ("path", "packages", "code", "weights", "settings", "rate", "mean_over_speakers")
"""The keys of an identity that define the values. The others are names."""


@dataclass(frozen=True, slots=True)
class ScoredSystem:
    """The scores of a system that is compared with others.

    Attributes:
        name: its name in tables.
        runs: its scores: one entry, or one for each seed of the training.
        sources: where the scores of each run were read from, in words.
        audio: for each run, the paths of the audio files by ID, as far as they are known.
        ratings: of a listening test, by metric and ID, the rating of each listener; NaN where one has not rated the
            file for all systems. The scores are their means.
        is_control: whether it is the hidden reference or an anchor of a listening test. It is shown and not tested.
    """

    name: str
    runs: tuple[Scores, ...]
    sources: tuple[str, ...] = ()
    audio: tuple[Mapping[str, str], ...] = ()
    ratings: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    is_control: bool = False
    _files: list[dict[str, FileScores]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_files", [{file.id: file for file in run.files} for run in self.runs])

    @property
    def metrics(self) -> dict[str, MetricInfo]:
        """The metrics that all runs have and that have a value for any file, by name."""
        return {
            metric.name: metric
            for metric in self.runs[0].metrics
            if all(
                any(metric.name in file.values and math.isfinite(file.values[metric.name]) for file in run.files)
                for run in self.runs
            )
        }

    @property
    def ids(self) -> list[str]:
        """The IDs of the files that all runs have, in the order of the first run."""
        return [name for name in self._files[0] if all(name in files for files in self._files)]

    def values(self, metric: str, ids: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Returns the values of a metric, [runs, files]; NaN where there is none."""
        return np.array([[files[name].values[metric] for name in ids] for files in self._files], np.float64)

    def rated(self, metric: str, ids: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Returns the ratings of a metric, [listeners, files]; NaN where there is none."""
        return np.array([self.ratings[metric][name] for name in ids], np.float64).reshape(len(ids), -1).T

    def reason(self, metric: str, name: str) -> str:
        """Returns why a metric has no value for a file; "" if that is not known."""
        return next((why for files in self._files if (why := files[name].reasons.get(metric, ""))), "")


def complete_files(metric: str, systems: Sequence[ScoredSystem], ids: Sequence[str]) -> list[str]:
    """Returns the files for which all systems that have a metric have a value, in every run."""
    finite = np.ones(len(ids), bool)
    for system in systems:
        if metric in system.metrics:
            finite &= np.isfinite(system.values(metric, ids)).all(axis=0)
    return [name for name, kept in zip(ids, finite, strict=True) if kept]


def known_metric(name: str, systems: Sequence[ScoredSystem], lower_is_better: bool) -> tuple[MetricInfo, bool]:
    """Returns what the systems know about a metric, and whether any of them knows in which direction it is better.

    Args:
        name: the name of the metric.
        systems: the systems that have it.
        lower_is_better: whether the user has said that a lower value is better.

    Raises:
        DataError: the systems have different units or directions, so the values can't be compared.
    """
    found = [(system, run_metric) for system in systems for run_metric in _of_runs(name, system)]
    known = [(system, metric) for system, metric in found if metric.identity]
    if not known:
        return replace(found[0][1], higher_is_better=not lower_is_better), lower_is_better
    first_system, first = known[0]
    for system, metric in known[1:]:
        for what, one, other in (
            ("unit", first.unit, metric.unit),
            ("better direction", _direction(first), _direction(metric)),
        ):
            if one != other:
                raise DataError(
                    f"the values of `{name}` can't be compared: its {what} is {one or 'none'} in `{first_system.name}` "
                    f"and {other or 'none'} in `{system.name}`",
                    remedy="leave it out with `--metrics`, or compute it in the same way with `audiozen evaluate`",
                )
    if lower_is_better and first.higher_is_better:
        raise DataError(
            f"a higher `{name}` is better: `{first_system.name}` says so",
            remedy=f"leave out `--lower-is-better {name}`",
        )
    return first, True


def identity_notes(name: str, systems: Sequence[ScoredSystem]) -> Iterator[str]:
    """Yields in words how the definitions of a metric differ between the runs of the systems."""
    first_system = systems[0]
    reference = next((metric for metric in _of_runs(name, first_system) if metric.identity), None)
    told = set()
    for system in systems:
        for metric in _of_runs(name, system):
            if reference is None or not metric.identity:
                if (reference is None) != (not metric.identity):
                    silent = first_system.name if reference is None else system.name
                    told.add(f"{silent} does not say how it was computed, so it may differ from the other")
                continue
            for key in _DEFINING:
                # A file need not have all keys.
                one, other = reference.identity.get(key), metric.identity.get(key)
                if one != other and (one or other):
                    told.add(f"{_difference(key, one, other, first_system.name, system.name)}")
    for line in sorted(told):
        yield f"{name}: {line}"


def _of_runs(name: str, system: ScoredSystem) -> Iterator[MetricInfo]:
    return (metric for run in system.runs for metric in run.metrics if metric.name == name)


def _direction(metric: MetricInfo) -> str:
    return "higher" if metric.higher_is_better else "lower"


def _difference(key: str, one: Any, other: Any, one_name: str, other_name: str) -> str:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        parts = [part for part in dict.fromkeys([*one, *other]) if one.get(part) != other.get(part)]
        shown = [", ".join(f"{part} {_short(of[part])}" if part in of else f"no {part}" for part in parts) for of in
                 (one, other)]  # fmt: skip
    else:
        shown = [_short(one), _short(other)]
    unit = " Hz" if key == "rate" else ""
    which = f"a run of {other_name}" if one_name == other_name else other_name
    return f"other {key.replace('_', ' ')}: {shown[0]}{unit} in {one_name}, {shown[1]}{unit} in {which}"


def _short(value: Any) -> str:
    """Returns a value as text; of a hash, only the beginning."""
    text = str(value).lower() if isinstance(value, bool) else "not known" if value is None else str(value)
    return text[:8] if len(text) == 64 and text.isalnum() else text
