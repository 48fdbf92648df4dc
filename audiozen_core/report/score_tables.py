"""The tables of scores: means with intervals, and differences from the first system in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from audiozen_core.comparison.found import FoundSystem
from audiozen_core.report.drawings import Interval, axis_of, place_interval
from audiozen_core.report.standing import Standing
from audiozen_core.report.words import difference_words, minus, p_words, range_words
from audiozen_core.results.compared import ComparedScores
from audiozen_core.results.paired import PairedDifference, SystemMean, system_mean
from audiozen_core.results.records import MetricInfo
from audiozen_core.results.rounding import digits, fixed, signed


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference from the first system.

    Attributes:
        words: the difference in words.
        verdict: `better`, `worse`, or "" if it is not certain.
        p: the corrected p-value in words.
        signed: the difference as a number.
        interval: its 95 % interval; "" if there is none.
        counts: the numbers of files that are better, worse and equal.
        bar: where it is on the axis of its table; to the right is better.
    """

    words: str
    verdict: str
    p: str
    signed: str
    interval: str
    counts: tuple[int, int, int]
    bar: Interval | None


@dataclass(frozen=True, slots=True)
class Score:
    """The mean of a metric of one system.

    Attributes:
        system: the name of the system.
        series: the number of its colour; -1 for the unprocessed files.
        mean: the mean as text; a dash if there is none.
        interval: its 95 % interval; "" if there is none.
        files: the number of files in the mean.
        missing: the number of files of the system that have no value.
        seeds: the number of seeds, and the standard deviation over them; "" for one.
        is_first: whether the others are compared with it.
        difference: the difference from the first system; None for that one, and where systems can't be compared.
        note: why the difference is missing, or what the mean is of; "" if that is plain.
    """

    system: str
    series: int
    mean: str
    interval: str
    files: int
    missing: int
    seeds: str
    is_first: bool
    difference: Difference | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Level:
    """The scores of the files with one value of a condition."""

    value: str
    files: int
    means: tuple[str, ...]
    differences: tuple[Difference | None, ...]


@dataclass(frozen=True, slots=True)
class ConditionTable:
    """The scores of a metric for each value of a condition.

    Attributes:
        condition: its name.
        systems: the names of the systems, in the order of `Level.means`.
        others: those that have a difference, in the order of `Level.differences`.
        levels: the values.
    """

    condition: str
    systems: tuple[str, ...]
    others: tuple[str, ...]
    levels: tuple[Level, ...]


@dataclass(frozen=True, slots=True)
class MetricTable:
    """The scores of all systems in one metric."""

    metric: MetricInfo
    scores: tuple[Score, ...]
    conditions: tuple[ConditionTable, ...]

    @property
    def direction(self) -> str:
        """Which direction is better, in words."""
        return "higher is better" if self.metric.higher_is_better else "lower is better"


def metric_tables(standing: Standing) -> tuple[MetricTable, ...]:
    """Returns a table for each metric: the one that ranks the files first."""
    ranking = standing.metric.name if standing.metric else ""
    metrics = sorted(standing.metrics, key=lambda metric: metric.name != ranking)
    return tuple(
        MetricTable(metric, tuple(_scores(standing, metric)), tuple(_conditions(standing, metric)))
        for metric in metrics
    )


def decimals_of(standing: Standing, metric: MetricInfo) -> int:
    """Returns how many decimals the means of a metric have."""
    means = [np.nanmean(system.scored.values(metric.name, system.scored.ids)) for system in _having(standing, metric)]
    return digits(metric, [float(mean) for mean in means])


def _having(standing: Standing, metric: MetricInfo) -> list[FoundSystem]:
    return [system for system in standing.systems if metric.name in system.scored.metrics]


def _rows(standing: Standing) -> tuple[FoundSystem, ...]:
    """Returns the systems of a table: the unprocessed files first, if there are any."""
    given = standing.given
    return standing.systems if given is None or given in standing.systems else (given, *standing.systems)


def _scores(standing: Standing, metric: MetricInfo) -> Iterator[Score]:
    comparison, decimals = standing.comparison, decimals_of(standing, metric)
    compared = comparison if comparison and metric in comparison.metrics else None
    found = {one.system: one for one in compared.differences if one.metric == metric.name} if compared else {}
    axis = _axis(found.values())
    for system in _rows(standing):
        name = system.scored.name
        files = _files_of(standing, compared, metric, system)
        mean = system_mean(system.scored.values(metric.name, files)) if files else None
        one = found.get(name)
        is_first = compared is not None and name == compared.baseline.name
        ids = system.scored.ids
        has_metric = all(any(each.name == metric.name for each in run.metrics) for run in system.scored.runs)
        values = system.scored.values(metric.name, ids) if has_metric else np.zeros((1, 0))
        missing = int((~np.isfinite(values).all(axis=0)).sum())
        yield Score(
            name,
            standing.series[name],
            minus(fixed(mean.mean, decimals)) if mean else "–",
            range_words(mean.low, mean.high, decimals) if mean else "",
            len(files),
            missing,
            _seeds(mean, decimals) if mean else "",
            is_first,
            _difference(one, metric, decimals, axis) if one else None,
            _note(standing, system, has_metric, bool(files)),
        )


def _note(standing: Standing, system: FoundSystem, has_metric: bool, has_values: bool) -> str:
    if not has_metric:
        return "not computed"
    if not has_values:
        return "no file has a value"
    if standing.comparison and system is not standing.given and system.scored.name not in standing.compared:
        return "of other files, so not compared"
    return ""


def _files_of(
    standing: Standing, compared: ComparedScores | None, metric: MetricInfo, system: FoundSystem
) -> list[str]:
    """Returns the files of a mean: those that are compared, or else those of the system that have a value."""
    scored = system.scored
    if metric.name not in scored.metrics:
        return []
    is_given = system is standing.given
    if compared and (scored.name in standing.compared or is_given):
        chosen = [name for name in compared.files_of(metric.name) if name in set(scored.ids)]
    else:
        chosen = scored.ids
    finite = np.isfinite(scored.values(metric.name, chosen)).all(axis=0)
    return [name for name, has_value in zip(chosen, finite, strict=True) if has_value]


def _seeds(mean: SystemMean, decimals: int) -> str:
    return f"{mean.seeds} seeds, ± {fixed(mean.deviation, decimals)}" if mean.seeds > 1 else ""


def _axis(differences: Iterable[PairedDifference]) -> tuple[float, float]:
    ends: list[float] = []
    for one in differences:
        sign = 1 if one.higher_is_better else -1
        ends += [sign * one.mean, sign * one.low, sign * one.high]
    return axis_of(ends)


def _difference(one: PairedDifference, metric: MetricInfo, decimals: int, axis: tuple[float, float]) -> Difference:
    sign = 1 if one.higher_is_better else -1
    low, high = sorted((sign * one.low, sign * one.high)) if math.isfinite(one.low) else (math.nan, math.nan)
    return Difference(
        difference_words(one, metric, decimals),
        one.verdict,
        p_words(one.p_holm),
        minus(signed(one.mean, decimals + 1)),
        range_words(one.low, one.high, decimals + 1),
        (one.better, one.worse, one.equal),
        place_interval(axis, sign * one.mean, low, high),
    )


def _conditions(standing: Standing, metric: MetricInfo) -> Iterator[ConditionTable]:
    comparison = standing.comparison
    if comparison is None or metric not in comparison.metrics:
        return
    decimals = decimals_of(standing, metric)
    names = [system.name for system in comparison.systems if metric.name in system.metrics]
    for condition, levels in comparison.by.items():
        of_metric = {level: [one for one in found if one.metric == metric.name] for level, found in levels.items()}
        axis = _axis([one for found in of_metric.values() for one in found])
        rows = []
        for level, found in of_metric.items():
            means = [comparison.mean(metric.name, name, condition, level, interval=False) for name in names]
            by_name = {one.system: one for one in found}
            rows.append(
                Level(
                    level or "not known",
                    len(comparison.files_of(metric.name, condition, level)),
                    tuple(minus(fixed(mean.mean, decimals)) if mean else "–" for mean in means),
                    tuple(
                        _difference(by_name[name], metric, decimals, axis) if name in by_name else None
                        for name in names[1:]
                    ),
                )
            )
        yield ConditionTable(condition, tuple(names), tuple(names[1:]), tuple(rows))
