"""Warns about noisy and clean files that can't be rated. Each warning is given once, because the files don't change."""

from __future__ import annotations

import math
from collections.abc import Iterable

from audiozen_core.kinds import Mode
from audiozen_core.logging import get_logger
from audiozen_core.scoring.report import Report
from audiozen_plugins.trainer.scores import no_pair


class PairWatch:
    """Checks the pairs of data sets (a noisy and a clean file each), and remembers what it has warned about."""

    def __init__(self) -> None:
        self._seen_lines: set[str] = set()
        self._before: dict[str, float] = {}

    def new_lines(self, lines: Iterable[str]) -> list[str]:
        """Returns those lines that no earlier call has returned."""
        new = [line for line in lines if line not in self._seen_lines]
        self._seen_lines.update(new)
        return new

    def check_unchanged(self, prefix: str, given: str, score: float) -> None:
        """Warns if the input files of a validation set differ from the first validation.

        Args:
            prefix: the name of the data set with a slash, or "" if it is the only data set.
            given: the name of the input signal, such as `noisy`.
            score: the mean score of the input signals, which shows whether they have changed.
        """
        before = self._before.setdefault(prefix, score)
        line = f"validation {prefix}the {given} files have changed since the first validation"
        differ = math.isfinite(score) and not math.isclose(score, before, rel_tol=1e-6, abs_tol=1e-6)
        if differ and self.new_lines([line]):
            get_logger().warning(
                f"{line}, so the scores of two epochs can't be compared",
                before=before,
                now=score,
                remedy="let the data set draw from the global generators of Python, NumPy or torch",
            )

    def check_pairs(self, mode: Mode, prefix: str, report: Report, remedy: str) -> None:
        """Checks that a data set has a pair that can be rated, and warns of metrics that have no value for any pair.

        Args:
            mode: the mode that the data set is for.
            prefix: the name of the data set with a slash, or "" if it is the only one.
            report: the values of all files.
            remedy: what to do if all pairs are degenerate.

        Raises:
            DataError: all pairs are degenerate. The network is not at fault, so no later epoch would have a score.
        """
        given, output = report.states
        rows = report.rows
        # A metric that needs no clean signal may have values even if all pairs are degenerate.
        unrated = all(len(report.without_value(metric)[0]) == len(rows) for metric in report.metrics)
        if report.metrics and rows and unrated and all(row.faults.keys() - {output} for row in rows):
            raise no_pair(mode, prefix, report, remedy)
        for metric in report.metrics:
            line = f"{mode} {prefix}{metric.label}: the metric has no value for any of the {len(rows)} {given} files"
            has_value = any(math.isfinite(row.values[given][metric.name]) for row in rows)
            if rows and not has_value and self.new_lines([line]):
                remedy = "use files that the metric can rate (are they too short?), or another metric"
                get_logger().warning(line, remedy=remedy)
