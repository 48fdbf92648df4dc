"""The results of a test: a table for people, a CSV file with a row for each file, and a summary in JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from audiozen_core.errors import RunError
from audiozen_core.storage.atomic import make_folder, write_whole
from audiozen_plugins.metric.metric import Metric


@dataclass(frozen=True, slots=True)
class Row:
    """The values of one file before and after enhancement, by the name of the metric."""

    id: str
    snr: float | None
    noisy: Mapping[str, float]
    enhanced: Mapping[str, float]


class Report:
    """Collects the values of each file and makes tables of them.

    Args:
        metrics: the metrics, in the order of the columns.

    Raises:
        RunError: two metrics have the same name.
    """

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self.metrics = tuple(metrics)
        names = [metric.name for metric in self.metrics]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise RunError(
                f"the metric `{twice[0]}` is listed twice",
                remedy="list each metric once in the `metrics` of the trainer",
            )
        self.rows: list[Row] = []

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, name: str, *, snr: float | None, noisy: Mapping[str, float], enhanced: Mapping[str, float]) -> None:
        """Adds the values of one file.

        Args:
            name: the id of the file.
            snr: its nominal signal-to-noise ratio in dB; None if it is not known.
            noisy: the values before enhancement, by the name of the metric.
            enhanced: the values after enhancement, by the name of the metric.
        """
        self.rows.append(Row(name, snr, dict(noisy), dict(enhanced)))

    def summary(self) -> dict[str, float]:
        """Returns the means over all files that have a value: `si_sdr`, `si_sdr_noisy`, `si_sdr_gain`, …"""
        result: dict[str, float] = {}
        for metric in self.metrics:
            noisy, enhanced, _ = self._means(metric, self.rows)
            result |= {metric.name: enhanced, f"{metric.name}_noisy": noisy, f"{metric.name}_gain": enhanced - noisy}
        return result

    def table(self, title: str) -> Table:
        """Makes a table of noisy and enhanced values, with a line for each SNR and one for all files."""
        # With these widths, three metrics fit into a terminal of 80 columns.
        table = Table(title=title, caption=self._footnote() or None, caption_justify="left", box=SIMPLE_HEAD, padding=0)
        by_snr = self._by_snr()
        if by_snr:
            table.add_column("SNR\nin dB", justify="right", no_wrap=True)
        table.add_column("\nfiles", justify="right", no_wrap=True)
        for metric in self.metrics:
            table.add_column(f"{metric.label}\nnoisy", justify="right", min_width=7, no_wrap=True)
            unit = f"in {metric.unit}" if metric.unit else ""
            table.add_column(f"{unit}\nenh.", justify="right", min_width=6, style="bold", no_wrap=True)
            table.add_column("\ngain", justify="right", min_width=6, no_wrap=True)
        for snr, rows in by_snr.items():
            table.add_row(f"{snr:g}", *self._cells(rows), end_section=snr == list(by_snr)[-1])
        table.add_row(*["all"] * bool(by_snr), *self._cells(self.rows))
        return table

    def text(self, title: str, *, width: int = 100) -> str:
        """Renders the table as plain text for a log, in lines of at most `width` characters without trailing blanks."""
        console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
        with console.capture() as capture:
            console.print(self.table(title))
        return "\n".join(line.rstrip() for line in capture.get().strip("\n").splitlines())

    def to_json(self) -> dict[str, Any]:
        """Returns the means over all files and for each SNR, for `json.dumps`. A mean is None if no file has a value.

        Returns:
            A dict with `files` (the number of files), `metrics` (by name: `label`, `unit`, `higher_is_better`), `all`
            (by name: `noisy`, `enhanced`, `gain`, and `missing`, the number of files without a value) and `by_snr` (a
            list of dicts like `all` that also have `snr` and `files`, from the lowest SNR to the highest).
        """
        described = {
            metric.name: {"label": metric.label, "unit": metric.unit, "higher_is_better": metric.higher_is_better}
            for metric in self.metrics
        }
        by_snr = [{"snr": snr, "files": len(rows), **self._mean_table(rows)} for snr, rows in self._by_snr().items()]
        return {"files": len(self.rows), "metrics": described, "all": self._mean_table(self.rows), "by_snr": by_snr}

    def write_json(self, path: Path) -> Path:
        """Writes `to_json` to a file, completely or not at all."""
        make_folder(path.parent)
        write_whole(path, json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n")
        return path

    def write_csv(self, path: Path) -> Path:
        """Writes a CSV file with a row for each file, completely or not at all. A missing value is an empty cell."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        names = [metric.name for metric in self.metrics]
        writer.writerow(["id", "snr", *(f"{name}_{state}" for name in names for state in ("noisy", "enhanced"))])
        for row in self.rows:
            values = [state[name] for name in names for state in (row.noisy, row.enhanced)]
            snr = "" if row.snr is None else f"{row.snr:g}"
            writer.writerow([row.id, snr, *("" if math.isnan(value) else f"{value:.6g}" for value in values)])
        make_folder(path.parent)
        write_whole(path, text.getvalue())
        return path

    def _by_snr(self) -> dict[float, list[Row]]:
        """Groups the rows by SNR, lowest first. Empty if an SNR is not known, or if most files have their own SNR."""
        if any(row.snr is None for row in self.rows):
            return {}
        levels = sorted({row.snr for row in self.rows if row.snr is not None})
        if len(levels) > max(1, len(self.rows) // 2):
            return {}
        return {level: [row for row in self.rows if row.snr == level] for level in levels}

    def _means(self, metric: Metric, rows: Sequence[Row]) -> tuple[float, float, int]:
        """Returns the mean before and after enhancement, and the number of files without a value."""
        pairs = [(row.noisy[metric.name], row.enhanced[metric.name]) for row in rows]
        whole = [pair for pair in pairs if not any(map(math.isnan, pair))]
        if not whole:
            return math.nan, math.nan, len(pairs)
        noisy, enhanced = (math.fsum(values) / len(whole) for values in zip(*whole, strict=True))
        return noisy, enhanced, len(pairs) - len(whole)

    def _mean_table(self, rows: Sequence[Row]) -> dict[str, dict[str, float | int | None]]:
        table = {}
        for metric in self.metrics:
            noisy, enhanced, missing = self._means(metric, rows)
            values = {"noisy": noisy, "enhanced": enhanced, "gain": enhanced - noisy}
            finite = {key: value if math.isfinite(value) else None for key, value in values.items()}
            table[metric.name] = {**finite, "missing": missing}
        return table

    def _cells(self, rows: Sequence[Row]) -> list[str]:
        cells = [str(len(rows))]
        for metric in self.metrics:
            noisy, enhanced, _ = self._means(metric, rows)
            digits = 2 if metric.unit == "dB" else 3
            cells += [f"{noisy:.{digits}f}", f"{enhanced:.{digits}f}", f"{enhanced - noisy:+.{digits}f}"]
        return cells

    def _footnote(self) -> str:
        missing = [(metric.label, self._means(metric, self.rows)[2]) for metric in self.metrics]
        lines = [f"{label}: {n} file{'s' * (n > 1)} without a value, not in the mean" for label, n in missing if n]
        return "\n".join(lines)
