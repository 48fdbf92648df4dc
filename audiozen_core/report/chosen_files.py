"""Which files are worth hearing: the worst, the middle and the best ones of each system, and where it fails."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from audiozen_core.report.drawings import SortedBars, axis_of, sorted_bars
from audiozen_core.report.score_tables import decimals_of
from audiozen_core.report.standing import Standing
from audiozen_core.report.words import minus, plural, size_words
from audiozen_core.results.compared import ComparedScores
from audiozen_core.results.records import MetricInfo
from audiozen_core.results.rounding import fixed, signed

CLIPS = 20
"""About how many clips a page has if the user does not say how many."""

_KINDS = ("worst", "middle", "best")


@dataclass(frozen=True, slots=True)
class FileRow:
    """The scores of one file.

    Attributes:
        id: its ID.
        conditions: the values of its conditions, in order.
        values: by the name of the system, the value of the metric as text.
        improvement: how much better the system is than the first one; NaN if nothing is compared.
        difference: the same as text, in the direction of the metric.
    """

    id: str
    conditions: tuple[str, ...]
    values: dict[str, str]
    improvement: float
    difference: str


@dataclass(frozen=True, slots=True)
class FileOrder:
    """The files from the worst to the best for one system.

    Attributes:
        system: the system.
        base: the system that it is compared with; "" if the files are in the order of its own scores.
        metric: the metric.
        rows: the files, the worst first.
        bars: their differences as a drawing; None if nothing is compared.
        better: the number of files for which the system is better.
        worse: the number for which it is worse.
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
    """A file that the page lets one hear.

    Attributes:
        id: its ID.
        kind: `worst`, `middle` or `best`.
        system: the system that it was chosen for.
        reasons: why it was chosen, in sentences.
        rank: 0 if it is the first of its kind.
    """

    id: str
    kind: str
    system: str
    rank: int
    reasons: list[str] = field(default_factory=list)


def order_files(standing: Standing) -> tuple[FileOrder, ...]:
    """Returns the order of the files by the metric that ranks them, for each system that is compared.

    Without a comparison, it is the order of the scores of each system.
    """
    metric, comparison = standing.metric, standing.comparison
    if metric is None:
        return ()
    if comparison and metric in comparison.metrics:
        orders = [
            _compared(standing, comparison, metric, one.system)
            for one in comparison.differences
            if one.metric == metric.name and one.files
        ]
        # One axis for all, so that the bars of two systems can be compared.
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
            tuple(of.get(file.id, "") for of in comparison.conditions.values()),
            {name: minus(fixed(column[file.id], decimals)) for name, column in columns.items()},
            sign * file.difference,
            minus(signed(file.difference, decimals + 1)),
        )
        for file in files
    )
    one = comparison.difference(metric.name, system)
    return FileOrder(system, comparison.baseline.name, metric, rows, None, one.better, one.worse)


def _alone(standing: Standing, metric: MetricInfo, name: str) -> FileOrder:
    (system,) = [each for each in standing.systems if each.scored.name == name]
    decimals = decimals_of(standing, metric)
    values = system.scored.values(metric.name, system.scored.ids).mean(axis=0).tolist()
    known = [(file, value) for file, value in zip(system.scored.ids, values, strict=True) if math.isfinite(value)]
    known.sort(key=lambda item: item[1] if metric.higher_is_better else -item[1])
    rows = tuple(FileRow(file, (), {name: minus(fixed(value, decimals))}, math.nan, "") for file, value in known)
    return FileOrder(name, "", metric, rows, None)


def choose_files(orders: Sequence[FileOrder], count: int | None) -> list[ChosenFile]:
    """Chooses files to be heard.

    Args:
        orders: the order of the files for each system.
        count: how many files of each kind and system; None for so many that there are about `CLIPS`, and at most 3.

    Returns:
        The files, system by system, the worst first. A file that several reasons choose is there once.
    """
    if count is None:
        count = max(1, min(3, CLIPS // (len(_KINDS) * len(orders)))) if orders else 0
    found: dict[str, ChosenFile] = {}
    # A system whose files are all as in the first one has neither worst nor best files.
    for order in [order for order in orders if not order.base or order.better or order.worse] or orders:
        for kind, rows in _kinds(order, count).items():
            for rank, row in enumerate(rows):
                chosen = found.setdefault(row.id, ChosenFile(row.id, kind, order.system, rank))
                chosen.reasons.append(_reason(order, row, kind))
    return list(found.values())


def _kinds(order: FileOrder, count: int) -> dict[str, list[FileRow]]:
    rows = list(order.rows)
    if len(rows) <= 3 * count:  # all files, each as what it is nearest to
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
    place = order.rows.index(row)
    metric = order.metric
    label, decimals = metric.label or metric.name, max(0, len(row.difference.partition(".")[2]) - 1)
    where = f"{_ordinal(place + 1)} of {plural(len(order.rows), 'file')}, counted from the worst"
    if kind == "worst" and place == 0:
        where = f"the worst of {plural(len(order.rows), 'file')}"
    if kind == "best" and place == len(order.rows) - 1:
        where = f"the best of {plural(len(order.rows), 'file')}"
    if order.base and not order.better and not order.worse:
        return f"{order.system}: {label} as in {order.base}, like all files."
    if not order.base:
        return f"{order.system}: {label} {row.values[order.system]}, {where}."
    word = "better" if row.improvement > 0 else "worse"
    size = f"{word} than {order.base} by {size_words(row.improvement, metric, decimals)}"
    return f"{order.system}: {label} {size if row.improvement else f'as in {order.base}'}, {where}."


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
