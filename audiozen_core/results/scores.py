"""The scores of many files: their means with intervals, as tables and as result files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audiozen_core.diagnostics.listed import listed
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.errors import RunError
from audiozen_core.results.files import identities_beside, read_number, write_csv, write_json
from audiozen_core.results.intervals import LEVEL, RESAMPLES, SEED, Mean, mean_with_interval
from audiozen_core.results.records import FileScores, MetricInfo
from audiozen_core.results.result_folders import KIND
from audiozen_core.results.rounding import fixed, interval
from audiozen_core.results.tables import SUFFIXES, FormattedTable, TableForm
from audiozen_core.storage.atomic import write_whole

_MOST_REASONS = 5


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of files, as `audiozen evaluate` computes and `audiozen compare` reads them.

    Attributes:
        metrics: the metrics, in column order.
        files: the scores of each file, sorted by ID.
        conditions: the names of the conditions of the files, such as `snr`.
        sources: where the signals came from, by role: `enhanced`, `clean`, `noisy`, …
        findings: one line for each type of problem that was found in the files.
        left_out: why a metric was not computed, by metric name.
        failed: the number of files that could not be read or for which a metric failed.
    """

    metrics: tuple[MetricInfo, ...]
    files: tuple[FileScores, ...]
    conditions: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    failed: int = 0

    def mean(self, metric: str, files: Iterable[FileScores] | None = None) -> Mean:
        """Computes the mean of a metric with its 95 % bootstrap interval.

        Args:
            metric: the name of the metric.
            files: the files to take the mean of; None for all.

        Raises:
            RunError: the scores have no such metric.
        """
        names = [info.name for info in self.metrics]
        if metric not in names:
            guess = did_you_mean(nearest(metric, names))
            raise RunError(
                f"the scores have no metric `{metric}`{f'; {guess}' if guess else ''}",
                remedy=f"use one of {listed(names) or 'none'}",
            )
        return mean_with_interval([file.values[metric] for file in (self.files if files is None else files)])

    def groups(self, condition: str) -> dict[str, list[FileScores]]:
        """Groups the files by the value of a condition: numbers in ascending order, then words, then "" (unknown)."""
        groups: dict[str, list[FileScores]] = {}
        for file in self.files:
            groups.setdefault(file.conditions.get(condition, ""), []).append(file)
        return {value: groups[value] for value in sort_condition_values(groups)}

    def missing(self, metric: str) -> dict[str, str]:
        """Returns the files for which a metric has no value: the reason by file ID, or "" if it is unknown."""
        return {file.id: file.reasons.get(metric, "") for file in self.files if not math.isfinite(file.values[metric])}

    def table(self, form: TableForm = "text") -> str:
        """Returns a table of the means and their 95 % bootstrap intervals.

        With conditions, the table has a column for each metric, a row for each value of each condition, and a row for
        all files. If a mean covers fewer files than its row, the number of files in the mean follows in parentheses.
        Without conditions, the table has a row for each metric. Notes below the table list the files without a value,
        and the implementation of each metric.
        """
        return self._table().render(form)

    def _table(self) -> FormattedTable:
        if not self.conditions:
            return self._table_of_metrics()
        several = len(self.conditions) > 1
        sections = [
            [
                [f"{condition} {value or '–'}" if several else value or "–", *self._cells(files)]
                for value, files in self.groups(condition).items()
            ]
            for condition in self.conditions
        ]
        sections.append([["all", *self._cells(self.files)]])
        first = "condition" if several else self.conditions[0]
        return FormattedTable([first, "files", *(metric.heading for metric in self.metrics)], sections, self._notes())

    def _table_of_metrics(self) -> FormattedTable:
        """Returns a table with a row for each metric. A single row with all metrics would be too wide."""
        rows = []
        for metric in self.metrics:
            mean, digits = self.mean(metric.name), _digits(metric)
            rows.append(
                [metric.heading, str(mean.count), fixed(mean.mean, digits), interval(mean.low, mean.high, digits)]
            )
        return FormattedTable(["metric", "files", "mean", "95 % interval"], [rows], self._notes())

    def _cells(self, files: Sequence[FileScores]) -> list[str]:
        cells = [str(len(files))]
        for metric in self.metrics:
            mean, digits = self.mean(metric.name, files), _digits(metric)
            fewer = f"({mean.count})" if 0 < mean.count < len(files) else ""
            parts = (fixed(mean.mean, digits), interval(mean.low, mean.high, digits), fewer)
            cells.append(" ".join(filter(None, parts)))
        return cells

    def _notes(self) -> list[str]:
        notes = ["in brackets: 95 % bootstrap interval over the files"]
        if self.conditions and any(map(self.missing, (metric.name for metric in self.metrics))):
            notes.append("in parentheses: the number of files in the mean, if some files of the row have no value")
        for metric in self.metrics:
            if missing := self.missing(metric.name):
                notes.append(
                    f"{metric.label or metric.name}: {len(missing)} of {len(self.files)} files have no value and are "
                    f"not in the mean: {_with_reasons(missing)}"
                )
        notes += [metric.described for metric in self.metrics if metric.described]
        return notes

    def to_json(self) -> dict[str, Any]:
        """Returns the content of `scores.json`: see docs/evaluate.md."""
        return {
            KIND: "evaluation",
            "files": len(self.files),
            "conditions": list(self.conditions),
            "sources": dict(self.sources),
            "metrics": {
                metric.name: {
                    **metric.identity,
                    "label": metric.label,
                    "unit": metric.unit,
                    "higher_is_better": metric.higher_is_better,
                    "described": metric.described,
                }
                for metric in self.metrics
            },
            "interval": {"method": "BCa bootstrap", "level": LEVEL, "resamples": RESAMPLES, "seed": SEED},
            "all": self._means(self.files),
            **{
                f"by_{condition}": [
                    {condition: value or None, "files": len(files), "means": self._means(files)}
                    for value, files in self.groups(condition).items()
                ]
                for condition in self.conditions
            },
            "missing": {metric.name: missing for metric in self.metrics if (missing := self.missing(metric.name))},
            "findings": list(self.findings),
            "left_out": dict(self.left_out),
        }

    def _means(self, files: Sequence[FileScores]) -> dict[str, dict[str, float | int | None]]:
        return {metric.name: self.mean(metric.name, files).to_json() for metric in self.metrics}

    def write(self, folder: str | Path, form: TableForm = "text") -> list[Path]:
        """Writes `scores.csv`, `scores.metrics.json`, `scores.json` and the table, each completely or not at all.

        Args:
            folder: the folder; it is created if necessary.
            form: the form of the table, which becomes `scores.txt`, `scores.tex` or `scores.md`.

        Returns:
            The paths of the files.

        Raises:
            OSError: a file can't be written. An existing file with this name stays unchanged.
        """
        folder = Path(folder)
        names = [metric.name for metric in self.metrics]
        csv_path = write_csv(
            folder / "scores.csv",
            ["id", *self.conditions, *names, "note"],
            (
                [
                    file.id,
                    *(file.conditions.get(condition, "") for condition in self.conditions),
                    *(file.values[name] for name in names),
                    _note(file),
                ]
                for file in self.files
            ),
            {metric.name: metric.identity for metric in self.metrics},
        )
        table = folder / f"scores{SUFFIXES[form]}"
        write_whole(table, self.table(form) + "\n")
        return [csv_path, identities_beside(csv_path), write_json(folder / "scores.json", self.to_json()), table]


def sort_condition_values(values: Iterable[str]) -> list[str]:
    """Sorts the values of a condition: numbers in ascending order, then words, then "" (unknown)."""
    return sorted(values, key=_rank)


def _digits(metric: MetricInfo) -> int:
    return 2 if metric.unit == "dB" else 3


def _rank(value: str) -> tuple[int, float, str]:
    number = read_number(value)
    if number is not None and math.isfinite(number):
        return 0, number, value
    return (1, 0.0, value) if value else (2, 0.0, value)


def _with_reasons(missing: Mapping[str, str]) -> str:
    """Lists files without a value, grouped by the reason."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in missing.items():
        by_reason.setdefault(reason, []).append(name)
    return "; ".join(
        f"{listed(names, most=_MOST_REASONS)}{f' ({reason})' * bool(reason)}" for reason, names in by_reason.items()
    )


def _note(file: FileScores) -> str:
    """Lists why metrics have no value for a file. If a reason does not apply to all metrics, their names precede it."""
    by_reason: dict[str, list[str]] = {}
    for metric, reason in file.reasons.items():
        by_reason.setdefault(reason, []).append(metric)
    return "; ".join(
        reason if len(metrics) == len(file.values) else f"{', '.join(metrics)}: {reason}"
        for reason, metrics in by_reason.items()
    )
