"""Makes the score tables of a report: means with intervals, and differences from the first system."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from audiozen_core.comparison.load_systems import LoadedSystem
from audiozen_core.report.drawings import Interval, axis_of, place_interval
from audiozen_core.report.standing import Standing
from audiozen_core.report.words import difference_words, minus, p_words, range_words
from audiozen_core.results.compared import ComparedScores
from audiozen_core.results.paired import PairedDifference, SystemMean, system_mean
from audiozen_core.results.records import MetricInfo
from audiozen_core.results.rounding import digits, fixed, signed


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of a system from the first system, as texts for the page.

    Attributes:
        words: a phrase such as `better by 0.42 dB, certain`.
        verdict: `better`, `worse`, or "" if the difference is not significant.
        p: the corrected p-value.
        signed: the difference as a number with its sign.
        interval: the 95 % interval of the difference; "" if there is none.
        counts: the numbers of files that are better, worse and equal.
        bar: the positions on the axis of the table. Better values are on the right. None if there is no value.
    """

    words: str
    verdict: str
    p: str
    signed: str
    interval: str
    counts: tuple[int, int, int]
    bar: Interval | None


@dataclass(frozen=True, slots=True)
class ScoreCell:
    """The mean of a metric for one system, as texts for the page.

    Attributes:
        system: the name of the system.
        series: the index of the system's colour; -1 for the unprocessed files.
        mean: the mean; a dash if there is none.
        interval: the 95 % interval of the mean; "" if there is none.
        files: the number of files in the mean.
        missing: the number of files of the system that have no value.
        seeds: the number of seeds, and the standard deviation over the seeds; "" for a single seed.
        is_first: whether this is the first system, which all other systems are compared with.
        difference: the difference from the first system; None for the first system, and without a comparison.
        note: why the mean or the difference is missing; "" if nothing is missing.
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
    """The scores of all files that have the same value of a condition.

    Attributes:
        value: the value of the condition.
        files: the number of files.
        means: the mean of each system.
        differences: the difference of each system from the first system; None if it was not computed.
    """

    value: str
    files: int
    means: tuple[str, ...]
    differences: tuple[Difference | None, ...]


@dataclass(frozen=True, slots=True)
class ConditionTable:
    """The scores of a metric for each value of a condition.

    Attributes:
        condition: the name of the condition.
        systems: the names of the systems, in the order of `Level.means`.
        others: the names of the systems without the first system, in the order of `Level.differences`.
        levels: the scores for each value of the condition.
    """

    condition: str
    systems: tuple[str, ...]
    others: tuple[str, ...]
    levels: tuple[Level, ...]


@dataclass(frozen=True, slots=True)
class MetricTable:
    """The scores of all systems in one metric, over all files and by condition."""

    metric: MetricInfo
    scores: tuple[ScoreCell, ...]
    conditions: tuple[ConditionTable, ...]

    @property
    def direction(self) -> str:
        """Whether higher or lower values are better, as text."""
        return "higher is better" if self.metric.higher_is_better else "lower is better"


def metric_tables(standing: Standing) -> tuple[MetricTable, ...]:
    """Returns a table for each metric. The metric that ranks the files comes first."""
    ranking = standing.metric.name if standing.metric else ""
    metrics = sorted(standing.metrics, key=lambda metric: metric.name != ranking)
    return tuple(
        MetricTable(metric, tuple(_scores(standing, metric)), tuple(_conditions(standing, metric)))
        for metric in metrics
    )


def decimals_of(standing: Standing, metric: MetricInfo) -> int:
    """Returns the number of decimals for the means of a metric."""
    means = [np.nanmean(system.scored.values(metric.name, system.scored.ids)) for system in _having(standing, metric)]
    return digits(metric, [float(mean) for mean in means])


def _having(standing: Standing, metric: MetricInfo) -> list[LoadedSystem]:
    return [system for system in standing.systems if metric.name in system.scored.metrics]


def _rows(standing: Standing) -> tuple[LoadedSystem, ...]:
    """Returns the systems of a table: the unprocessed files first, if there are any."""
    unprocessed = standing.unprocessed
    return (
        standing.systems if unprocessed is None or unprocessed in standing.systems else (unprocessed, *standing.systems)
    )


def _scores(standing: Standing, metric: MetricInfo) -> Iterator[ScoreCell]:
    comparison, decimals = standing.comparison, decimals_of(standing, metric)
    compared = comparison if comparison and metric in comparison.metrics else None
    all_differences = compared.differences if compared else ()
    differences = {difference.system: difference for difference in all_differences if difference.metric == metric.name}
    axis = _axis(differences.values())
    for system in _rows(standing):
        name = system.scored.name
        files = _files_of(standing, compared, metric, system)
        mean = system_mean(system.scored.values(metric.name, files)) if files else None
        difference = differences.get(name)
        is_first = compared is not None and name == compared.baseline.name
        ids = system.scored.ids
        has_metric = all(any(each.name == metric.name for each in run.metrics) for run in system.scored.runs)
        values = system.scored.values(metric.name, ids) if has_metric else np.zeros((1, 0))
        missing = int((~np.isfinite(values).all(axis=0)).sum())
        yield ScoreCell(
            name,
            standing.series[name],
            minus(fixed(mean.mean, decimals)) if mean else "–",
            range_words(mean.low, mean.high, decimals) if mean else "",
            len(files),
            missing,
            _seeds(mean, decimals) if mean else "",
            is_first,
            _difference(difference, metric, decimals, axis) if difference else None,
            _note(standing, system, has_metric, bool(files)),
        )


def _note(standing: Standing, system: LoadedSystem, has_metric: bool, has_values: bool) -> str:
    if not has_metric:
        return "not computed"
    if not has_values:
        return "no file has a value"
    if standing.comparison and system is not standing.unprocessed and system.scored.name not in standing.compared:
        return "not compared, because it has other files"
    return ""


def _files_of(
    standing: Standing, compared: ComparedScores | None, metric: MetricInfo, system: LoadedSystem
) -> list[str]:
    """Returns the files of a mean: the compared files or, without a comparison, all files that have a value."""
    scored = system.scored
    if metric.name not in scored.metrics:
        return []
    is_unprocessed = system is standing.unprocessed
    if compared and (scored.name in standing.compared or is_unprocessed):
        chosen = [name for name in compared.files_of(metric.name) if name in set(scored.ids)]
    else:
        chosen = scored.ids
    finite = np.isfinite(scored.values(metric.name, chosen)).all(axis=0)
    return [name for name, has_value in zip(chosen, finite, strict=True) if has_value]


def _seeds(mean: SystemMean, decimals: int) -> str:
    return f"{mean.seeds} seeds, ± {fixed(mean.deviation, decimals)}" if mean.seeds > 1 else ""


def _axis(differences: Iterable[PairedDifference]) -> tuple[float, float]:
    ends: list[float] = []
    for paired in differences:
        sign = 1 if paired.higher_is_better else -1
        ends += [sign * paired.mean, sign * paired.low, sign * paired.high]
    return axis_of(ends)


def _difference(paired: PairedDifference, metric: MetricInfo, decimals: int, axis: tuple[float, float]) -> Difference:
    sign = 1 if paired.higher_is_better else -1
    low, high = math.nan, math.nan
    if math.isfinite(paired.low):
        low, high = sorted((sign * paired.low, sign * paired.high))
    return Difference(
        difference_words(paired, metric, decimals),
        paired.verdict,
        p_words(paired.p_holm),
        minus(signed(paired.mean, decimals + 1)),
        range_words(paired.low, paired.high, decimals + 1),
        (paired.better, paired.worse, paired.equal),
        place_interval(axis, sign * paired.mean, low, high),
    )


def _conditions(standing: Standing, metric: MetricInfo) -> Iterator[ConditionTable]:
    comparison = standing.comparison
    if comparison is None or metric not in comparison.metrics:
        return
    decimals = decimals_of(standing, metric)
    names = [system.name for system in comparison.systems if metric.name in system.metrics]
    for condition, levels in comparison.by.items():
        differences_of_level = {
            level: [difference for difference in differences if difference.metric == metric.name]
            for level, differences in levels.items()
        }
        axis = _axis([difference for differences in differences_of_level.values() for difference in differences])
        rows = []
        for level, differences in differences_of_level.items():
            means = [comparison.mean(metric.name, name, condition, level, interval=False) for name in names]
            by_name = {difference.system: difference for difference in differences}
            rows.append(
                Level(
                    level or "unknown",
                    len(comparison.files_of(metric.name, condition, level)),
                    tuple(minus(fixed(mean.mean, decimals)) if mean else "–" for mean in means),
                    tuple(
                        _difference(by_name[name], metric, decimals, axis) if name in by_name else None
                        for name in names[1:]
                    ),
                )
            )
        yield ConditionTable(condition, tuple(names), tuple(names[1:]), tuple(rows))
