"""The scores of one system, which has one or more runs, and checks that its metrics match those of other systems."""

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
"""The keys of a metric identity that affect the values. The other keys are only names."""


@dataclass(frozen=True, slots=True)
class ScoredSystem:
    """The scores of a system in a comparison.

    Attributes:
        name: the name of the system in tables.
        runs: the scores of each run. A system has several runs if it was trained with several seeds.
        sources: a text for each run that says where its scores were read from.
        audio: for each run, the paths of the audio files by ID, if they are known.
        ratings: in a listening test, the ratings of each listener by metric and file ID. A rating is NaN if the
            listener has not rated the file for all systems. The scores are the means of the ratings.
        is_control: whether the system is the hidden reference or an anchor of a listening test. Controls are shown, but
            not tested.
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
        """The metrics, by name, that have a value for at least one file in every run."""
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
        """The IDs of the files that all runs contain, in the order of the first run."""
        return [name for name in self._files[0] if all(name in files for files in self._files)]

    def values(self, metric: str, ids: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Returns the values of a metric, [runs, files]; NaN for a missing value."""
        return np.array([[files[name].values[metric] for name in ids] for files in self._files], np.float64)

    def rated(self, metric: str, ids: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Returns the ratings of a metric, [listeners, files]; NaN for a missing rating."""
        ratings = np.array([self.ratings[metric][name] for name in ids], np.float64)
        return np.transpose(ratings.reshape(len(ids), -1))

    def reason(self, metric: str, name: str) -> str:
        """Returns the reason why a metric has no value for a file; "" if it is unknown."""
        return next((why for files in self._files if (why := files[name].reasons.get(metric, ""))), "")


def complete_files(metric: str, systems: Sequence[ScoredSystem], ids: Sequence[str]) -> list[str]:
    """Returns the files for which every run has a value, in all systems that have the metric."""
    finite = np.ones(len(ids), bool)
    for system in systems:
        if metric in system.metrics:
            finite &= np.isfinite(system.values(metric, ids)).all(axis=0)
    return [name for name, is_finite in zip(ids, finite, strict=True) if is_finite]


def known_metric(name: str, systems: Sequence[ScoredSystem], lower_is_better: bool) -> tuple[MetricInfo, bool]:
    """Returns the description of a metric that the systems share, and whether its direction is known.

    Args:
        name: the name of the metric.
        systems: the systems that have the metric.
        lower_is_better: whether the user has specified that lower values are better.

    Raises:
        DataError: the systems have different units or directions, so the values can't be compared, or
            `lower_is_better` contradicts the direction in the scores.
    """
    descriptions = [(system, metric) for system in systems for metric in _metric_of_runs(name, system)]
    identified = [(system, metric) for system, metric in descriptions if metric.identity]
    if not identified:
        return replace(descriptions[0][1], higher_is_better=not lower_is_better), lower_is_better
    first_system, first = identified[0]
    for system, metric in identified[1:]:
        for what, first_value, other_value in (
            ("unit", first.unit, metric.unit),
            ("better direction", _direction(first), _direction(metric)),
        ):
            if first_value != other_value:
                raise DataError(
                    f"the values of `{name}` can't be compared: the {what} is {first_value or 'none'} in "
                    f"`{first_system.name}` and {other_value or 'none'} in `{system.name}`",
                    remedy="exclude this metric with `--metrics`, or compute it in the same way with "
                    "`audiozen evaluate`",
                )
    if lower_is_better and first.higher_is_better:
        raise DataError(
            f"higher values of `{name}` are better, according to the scores of `{first_system.name}`",
            remedy=f"leave out `--lower-is-better {name}`",
        )
    return first, True


def identity_notes(name: str, systems: Sequence[ScoredSystem]) -> Iterator[str]:
    """Yields a note for each difference between the definitions of a metric in the runs of the systems."""
    first_system = systems[0]
    reference = next((metric for metric in _metric_of_runs(name, first_system) if metric.identity), None)
    notes = set()
    for system in systems:
        for metric in _metric_of_runs(name, system):
            if reference is None or not metric.identity:
                if (reference is None) != (not metric.identity):
                    unidentified = first_system.name if reference is None else system.name
                    notes.add(
                        f"the scores of {unidentified} do not say how this metric was computed, so it may have been "
                        "computed differently"
                    )
                continue
            for key in _DEFINING:
                # An identity may lack some keys.
                first, other = reference.identity.get(key), metric.identity.get(key)
                if first != other and (first or other):
                    notes.add(_difference(key, first, other, first_system.name, system.name))
    for note in sorted(notes):
        yield f"{name}: {note}"


def _metric_of_runs(name: str, system: ScoredSystem) -> Iterator[MetricInfo]:
    return (metric for run in system.runs for metric in run.metrics if metric.name == name)


def _direction(metric: MetricInfo) -> str:
    return "higher" if metric.higher_is_better else "lower"


def _difference(key: str, first: Any, other: Any, first_name: str, other_name: str) -> str:
    """Describes how two values of a key differ. For two mappings, only the entries that differ are described."""
    if isinstance(first, Mapping) and isinstance(other, Mapping):
        parts = [part for part in dict.fromkeys([*first, *other]) if first.get(part) != other.get(part)]
        shown = [
            ", ".join(f"{part} {_short(values[part])}" if part in values else f"no {part}" for part in parts)
            for values in (first, other)
        ]
    else:
        shown = [_short(first), _short(other)]
    unit = " Hz" if key == "rate" else ""
    other_label = f"a run of {other_name}" if first_name == other_name else other_name
    return f"different {key.replace('_', ' ')}: {shown[0]}{unit} in {first_name}, {shown[1]}{unit} in {other_label}"


def _short(value: Any) -> str:
    """Returns a value as text. A hash is shortened to its first 8 characters."""
    text = str(value).lower() if isinstance(value, bool) else "not known" if value is None else str(value)
    return text[:8] if len(text) == 64 and text.isalnum() else text
