"""The results of a test: a table for people, a CSV file with a row for each file, and a summary in JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from audiozen_core.errors import RunError
from audiozen_core.storage.atomic import make_folder, write_whole
from audiozen_plugins.metric.metric import Metric
from audiozen_plugins.metric.rating import Row

# A footnote or a warning lists the IDs of this many files; the CSV and the JSON list all.
_LISTED = 8
# In characters. No table is wider.
_WIDEST = 100_000


class Report:
    """Collects the values of each file and makes tables of them.

    The mean of a metric is over the files whose noisy and enhanced value are finite. The others are counted and listed:
    if the noisy signal has no value, the pair is at fault, and otherwise the network.

    Args:
        metrics: the metrics, in the order of the columns.
        rows: the values of the first files.

    Raises:
        RunError: two metrics have the same name.
    """

    def __init__(self, metrics: Sequence[Metric], rows: Iterable[Row] = ()) -> None:
        self.metrics = tuple(metrics)
        names = [metric.name for metric in self.metrics]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise RunError(
                f"the metric `{twice[0]}` is listed twice",
                remedy="list each metric once in the `metrics` of the trainer",
            )
        self.rows = list(rows)

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
            noisy, enhanced = self._means(metric, self.rows)
            result |= {metric.name: enhanced, f"{metric.name}_noisy": noisy, f"{metric.name}_gain": enhanced - noisy}
        return result

    def without_value(self, metric: Metric) -> tuple[list[Row], list[Row]]:
        """Returns the files that a mean leaves out: those whose pair is at fault, and those with a faulty output."""
        pairs = [row for row in self.rows if not math.isfinite(row.noisy[metric.name])]
        outputs = [
            row
            for row in self.rows
            if math.isfinite(row.noisy[metric.name]) and not math.isfinite(row.enhanced[metric.name])
        ]
        return pairs, outputs

    def faulty_pairs(self) -> list[str]:
        """Says which files the means leave out because of the pair, and why, in one line for each set of files."""
        return self._left_out("the pair", [self.without_value(metric)[0] for metric in self.metrics], "noisy")

    def faulty_outputs(self) -> list[str]:
        """Says which files the means leave out because of the network, and why, in one line for each set of files."""
        rows = [self.without_value(metric)[1] for metric in self.metrics]
        return self._left_out("the network's output", rows, "enhanced")

    def _left_out(self, whose: str, rows_by_metric: Sequence[Sequence[Row]], kind: str) -> list[str]:
        labels: dict[tuple[str, ...], list[str]] = {}
        for metric, rows in zip(self.metrics, rows_by_metric, strict=True):
            named = tuple(f"{row.id} ({why})" if (why := _fault(row, kind)) else row.id for row in rows)
            labels.setdefault(named, []).append(metric.label)
        labels.pop((), None)
        return [
            f"{', '.join(of_metrics)}: {len(named)} file{'s are' if len(named) > 1 else ' is'} not in the mean, "
            f"because {whose} has no value: {', '.join(named[:_LISTED])}"
            + f", and {len(named) - _LISTED} more"
            * (len(named) > _LISTED)
            for named, of_metrics in labels.items()
        ]

    def table(self, title: str = "") -> Table:
        """Makes a table of noisy and enhanced values, with a line for each SNR and one for all files."""
        # With these widths, three metrics fit into a terminal of 80 columns.
        table = Table(title=escape(title) or None, box=SIMPLE_HEAD, padding=0)
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

    def show(self, title: str, console: Console) -> None:
        """Prints the title, the table, and below it which files the means leave out.

        Nothing is cut: where the table needs more columns than the console has, its lines are longer. Without this, a
        pipe, which counts as 80 columns, would get dots instead of numbers.
        """
        table = self.table()
        console.width = max(
            console.width, console.measure(table, options=console.options.update(width=_WIDEST)).maximum
        )
        # Not the title of the table, which would be wrapped at the width of a narrow one.
        console.print(title, markup=False, highlight=False, soft_wrap=True)
        console.print(table)
        for line in (*self.faulty_pairs(), *self.faulty_outputs()):
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    def text(self, title: str) -> str:
        """Returns what `show` prints, as plain text without trailing blanks."""
        # The smallest width: `show` widens it as far as the table needs.
        console = Console(file=io.StringIO(), width=1, color_system=None, force_terminal=False)
        with console.capture() as capture:
            self.show(title, console)
        return "\n".join(line.rstrip() for line in capture.get().strip("\n").splitlines())

    def to_json(self) -> dict[str, Any]:
        """Returns the means over all files and for each SNR, for `json.dumps`. A mean is None if no file has a value.

        Returns:
            A dict with `files` (the number of files), `metrics` (by name: `label`, `unit`, `higher_is_better`), `all`
            (by name: `noisy`, `enhanced`, `gain`, and `missing`, the number of files that are not in these means),
            `by_snr` (a list of dicts like `all` that also have `snr` and `files`, from the lowest SNR to the highest)
            and `left_out` (by name, if there are such files: `pair` and `network`, dicts from the ID of a file that is
            not in the means to the reason, which may be "").
        """
        described = {
            metric.name: {"label": metric.label, "unit": metric.unit, "higher_is_better": metric.higher_is_better}
            for metric in self.metrics
        }
        by_snr = [{"snr": snr, "files": len(rows), **self._mean_table(rows)} for snr, rows in self._by_snr().items()]
        left_out = {}
        for metric in self.metrics:
            pairs, outputs = self.without_value(metric)
            if pairs or outputs:
                left_out[metric.name] = {
                    "pair": {row.id: _fault(row, "noisy") for row in pairs},
                    "network": {row.id: _fault(row, "enhanced") for row in outputs},
                }
        means = self._mean_table(self.rows)
        return {"files": len(self.rows), "metrics": described, "all": means, "by_snr": by_snr, "left_out": left_out}

    def write_json(self, path: Path) -> Path:
        """Writes `to_json` to a file, completely or not at all."""
        make_folder(path.parent)
        write_whole(path, json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n")
        return path

    def write_csv(self, path: Path) -> Path:
        """Writes a CSV file with a row for each file, completely or not at all.

        A value that is not finite is an empty cell, because it is not in the mean. The last column, `note`, says why.
        """
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        names = [metric.name for metric in self.metrics]
        writer.writerow(
            ["id", "snr", *(f"{name}_{state}" for name in names for state in ("noisy", "enhanced")), "note"]
        )
        for row in self.rows:
            values = [state[name] for name in names for state in (row.noisy, row.enhanced)]
            snr = "" if row.snr is None else f"{row.snr:g}"
            cells = (f"{value:.6g}" if math.isfinite(value) else "" for value in values)
            writer.writerow([row.id, snr, *cells, "; ".join(filter(None, (row.noisy_fault, row.enhanced_fault)))])
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

    def _means(self, metric: Metric, rows: Sequence[Row]) -> tuple[float, float]:
        """Returns the mean before and after enhancement; NaN if no file has a value."""
        pairs = [(row.noisy[metric.name], row.enhanced[metric.name]) for row in rows]
        whole = [pair for pair in pairs if all(map(math.isfinite, pair))]
        if not whole:
            return math.nan, math.nan
        noisy, enhanced = (math.fsum(values) / len(whole) for values in zip(*whole, strict=True))
        return noisy, enhanced

    def _mean_table(self, rows: Sequence[Row]) -> dict[str, dict[str, float | int | None]]:
        table = {}
        for metric in self.metrics:
            noisy, enhanced = self._means(metric, rows)
            missing = sum(
                not (math.isfinite(row.noisy[metric.name]) and math.isfinite(row.enhanced[metric.name])) for row in rows
            )
            values = {"noisy": noisy, "enhanced": enhanced, "gain": enhanced - noisy}
            finite = {key: value if math.isfinite(value) else None for key, value in values.items()}
            table[metric.name] = {**finite, "missing": missing}
        return table

    def _cells(self, rows: Sequence[Row]) -> list[str]:
        cells = [str(len(rows))]
        for metric in self.metrics:
            noisy, enhanced = self._means(metric, rows)
            digits = 2 if metric.unit == "dB" else 3
            cells += [f"{noisy:.{digits}f}", f"{enhanced:.{digits}f}", f"{enhanced - noisy:+.{digits}f}"]
        return cells


def _fault(row: Row, kind: str) -> str:
    return row.noisy_fault if kind == "noisy" else row.enhanced_fault
