"""Chooses files for listening: for each system, the worst and the best files, and files in the middle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from audiozen_core.diagnostics.listed import plural
from audiozen_core.report.drawings import SortedBars, axis_of, sorted_bars
from audiozen_core.report.score_tables import decimals_of
from audiozen_core.report.standing import Standing
from audiozen_core.report.words import minus, size_words
from audiozen_core.results.compared import ComparedScores
from audiozen_core.results.records import MetricInfo
from audiozen_core.results.rounding import fixed, signed

CLIPS = 20
"""The approximate default number of clips in a page."""

_KINDS = ("worst", "middle", "best")


@dataclass(frozen=True, slots=True)
class FileRow:
    """The scores of one file.

    Attributes:
        id: the ID of the file.
        conditions: the values of the conditions, in the order of the comparison.
        values: the value of the metric in each system as text, by system name.
        improvement: how much better the compared system is than the baseline for this file; negative if it is worse,
            NaN without a baseline.
        difference: the value of the compared system minus the value of the baseline, as text; "" without a baseline.
    """

    id: str
    conditions: tuple[str, ...]
    values: dict[str, str]
    improvement: float
    difference: str


@dataclass(frozen=True, slots=True)
class FileOrder:
    """The files of one system, sorted from the worst to the best.

    Attributes:
        system: the name of the system.
        base: the system that `system` is compared with; "" if the files are sorted by the scores of `system` alone.
        metric: the metric.
        rows: the files, worst first.
        bars: a drawing of the differences; None without a comparison.
        better: the number of files for which the system is better than the base system.
        worse: the number of files for which the system is worse.
    """

    system: str
    base: str
    metric: MetricInfo
    rows: tuple[FileRow, ...]
    bars: SortedBars | None
    better: int = 0
    worse: int = 0


@dataclass(slots=True)
class ChosenFile:
    """A file that was chosen for listening.

    Attributes:
        id: the ID of the file.
        kind: the part of the sorted files that the file comes from: `worst`, `middle` or `best`.
        system: the system that the file was chosen for.
        reasons: sentences that explain why the file was chosen.
        rank: the position among the files with the same `kind` and `system`, counted from 0.
    """

    id: str
    kind: str
    system: str
    rank: int
    reasons: list[str] = field(default_factory=list)


def order_files(standing: Standing) -> tuple[FileOrder, ...]:
    """Sorts the files of each compared system by how much their ranking metric differs from the baseline's.

    Without a comparison, the files of each system are sorted by their scores.
    """
    metric, comparison = standing.metric, standing.comparison
    if metric is None:
        return ()
    if comparison and metric in comparison.metrics:
        orders = [
            _compared(standing, comparison, metric, difference.system)
            for difference in comparison.differences
            if difference.metric == metric.name and difference.files
        ]
        # All drawings have the same axis, so the bars of different systems are comparable.
        axis = axis_of(row.improvement for order in orders for row in order.rows)
        return tuple(
            replace(order, bars=sorted_bars([row.improvement for row in order.rows], axis)) for order in orders
        )
    return tuple(
        order
        for system in standing.systems
        if metric.name in system.scored.metrics and (order := _alone(standing, metric, system.scored.name)).rows
    )


def _compared(standing: Standing, comparison: ComparedScores, metric: MetricInfo, system: str) -> FileOrder:
    decimals = decimals_of(standing, metric)
    files = comparison.files(metric.name, system)
    ids = [file.id for file in files]
    columns = {
        each.name: dict(zip(ids, each.values(metric.name, ids).mean(axis=0).tolist(), strict=True))
        for each in comparison.systems
        if metric.name in each.metrics
    }
    sign = 1 if metric.higher_is_better else -1
    rows = tuple(
        FileRow(
            file.id,
            tuple(value_of_file.get(file.id, "") for value_of_file in comparison.conditions.values()),
            {name: minus(fixed(column[file.id], decimals)) for name, column in columns.items()},
            sign * file.difference,
            minus(signed(file.difference, decimals + 1)),
        )
        for file in files
    )
    difference = comparison.difference(metric.name, system)
    return FileOrder(system, comparison.baseline.name, metric, rows, None, difference.better, difference.worse)


def _alone(standing: Standing, metric: MetricInfo, name: str) -> FileOrder:
    (system,) = [each for each in standing.systems if each.scored.name == name]
    decimals = decimals_of(standing, metric)
    values = system.scored.values(metric.name, system.scored.ids).mean(axis=0).tolist()
    finite = [(file, value) for file, value in zip(system.scored.ids, values, strict=True) if math.isfinite(value)]
    finite.sort(key=lambda item: item[1] if metric.higher_is_better else -item[1])
    rows = tuple(FileRow(file, (), {name: minus(fixed(value, decimals))}, math.nan, "") for file, value in finite)
    return FileOrder(name, "", metric, rows, None)


def choose_files(orders: Sequence[FileOrder], count: int | None) -> list[ChosenFile]:
    """Chooses files for listening.

    Args:
        orders: the sorted files of each system.
        count: the number of worst, of middle and of best files for each system; None for at most 3 of each, and about
            `CLIPS` files in total.

    Returns:
        The files, grouped by system, worst first. A file that was chosen for several reasons appears once.
    """
    if count is None:
        count = max(1, min(3, CLIPS // (len(_KINDS) * len(orders)))) if orders else 0
    chosen: dict[str, ChosenFile] = {}
    # If all files of a system are equal to the base system, no file is the worst or the best. Such systems are skipped.
    for order in [order for order in orders if not order.base or order.better or order.worse] or orders:
        for kind, rows in _kinds(order, count).items():
            for rank, row in enumerate(rows):
                file = chosen.setdefault(row.id, ChosenFile(row.id, kind, order.system, rank))
                file.reasons.append(_reason(order, row, kind))
    return list(chosen.values())


def _kinds(order: FileOrder, count: int) -> dict[str, list[FileRow]]:
    rows = list(order.rows)
    if len(rows) <= 3 * count:  # all files are chosen: a third each as worst, middle and best
        third = len(rows) / 3
        return {
            "worst": rows[: round(third)],
            "middle": rows[round(third) : round(2 * third)],
            "best": rows[round(2 * third) :][::-1],
        }
    begin = (len(rows) - count) // 2
    return {
        "worst": rows[:count],
        "middle": rows[begin : begin + count],
        "best": rows[::-1][:count],
    }


def _reason(order: FileOrder, row: FileRow, kind: str) -> str:
    index = order.rows.index(row)
    metric = order.metric
    label, decimals = metric.label or metric.name, max(0, len(row.difference.partition(".")[2]) - 1)
    position = f"{_ordinal(index + 1)} of {plural(len(order.rows), 'file')}, counted from the worst"
    if kind == "worst" and index == 0:
        position = f"the worst of {plural(len(order.rows), 'file')}"
    if kind == "best" and index == len(order.rows) - 1:
        position = f"the best of {plural(len(order.rows), 'file')}"
    if order.base and not order.better and not order.worse:
        return f"{order.system}: {label} equal to {order.base}, as for every file."
    if not order.base:
        return f"{order.system}: {label} {row.values[order.system]}, {position}."
    word = "better" if row.improvement > 0 else "worse"
    size = f"{word} than {order.base} by {size_words(row.improvement, metric, decimals)}"
    return f"{order.system}: {label} {size if row.improvement else f'equal to {order.base}'}, {position}."


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
