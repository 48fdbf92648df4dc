"""The results of a test: a table for people, a CSV file with a row for each file, and a summary in JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import DataError
from audiozen_core.storage.atomic import make_folder, write_whole
from audiozen_plugins.metric.metric import Metric
from audiozen_plugins.metric.rating import Row

# In characters. No table is wider.
_WIDEST = 100_000


class Report:
    """The values of the files of one data set, and tables of them.

    The means of a metric are over the files whose noisy value is finite. In the others the pair is at fault; they are
    counted and listed. If the enhanced value of a file is not finite although the noisy one is, the network is at
    fault: the mean of the enhanced values and the gain are then NaN, because the mean of the other files would hide
    that the network fails.

    Args:
        metrics: the metrics, in the order of the columns. Each has a name of its own.
        rows: the values of all files.

    Raises:
        DataError: two files have the same ID.
    """

    def __init__(self, metrics: Sequence[Metric], rows: Iterable[Row]) -> None:
        self.metrics = tuple(metrics)
        self.rows = list(rows)
        counts = Counter(row.id for row in self.rows)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise DataError(
                f"two samples have the ID `{twice[0]}`", remedy="give each sample of the data set an `id` of its own"
            )

    def summary(self) -> dict[str, float]:
        """Returns the means over all files: `si_sdr`, `si_sdr_noisy`, `si_sdr_gain`, …

        If there are files without a value, their number is in `si_sdr_missing`, and so on.
        """
        result: dict[str, float] = {}
        for metric in self.metrics:
            noisy, enhanced = self._means(metric, self.rows)
            missing = sum(map(len, self.without_value(metric)))
            values = (enhanced, noisy, enhanced - noisy, *[missing] * bool(missing))
            result |= zip(scalar_names(metric.name), values, strict=False)
        return result

    def without_value(self, metric: Metric) -> tuple[list[Row], list[Row]]:
        """Returns the files without a value: those whose pair is at fault, and those with a faulty output."""
        return _without_value(metric, self.rows)

    def faulty_pairs(self) -> list[str]:
        """Says which files the means leave out because of the pair, and why, in one line for each set of files."""
        return [
            f"{labels}: {count} file{'s are' if count > 1 else ' is'} not in the mean, because the pair has no value: "
            f"{names}"
            for labels, count, names in self._faulty(0, "noisy")
        ]

    def faulty_outputs(self) -> list[str]:
        """Says for which files the network has no value, and why, in one line for each set of files."""
        return [
            f"{labels}: there is no mean, because the network's output has no value for {count} of {len(self.rows)} "
            f"files: {names}"
            for labels, count, names in self._faulty(1, "enhanced")
        ]

    def _faulty(self, fault: int, kind: str) -> Iterator[tuple[str, int, str]]:
        """Yields each set of faulty files: the metrics of which it is the set, its size, and the first IDs.

        The CSV and the JSON have all of them.
        """
        labels: dict[tuple[str, ...], list[str]] = {}
        for metric in self.metrics:
            rows = self.without_value(metric)[fault]
            named = tuple(f"{row.id} ({why})" if (why := _fault(row, kind)) else row.id for row in rows)
            labels.setdefault(named, []).append(metric.label)
        labels.pop((), None)
        for named, of_metrics in labels.items():
            yield ", ".join(of_metrics), len(named), listed(named)

    def table(self, title: str = "") -> Table:
        """Makes a table of noisy and enhanced values, with a line for each SNR and one for all files.

        A mean that does not exist is a dash.
        """
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
            label = "inf, NaN" if snr is None else f"{snr:g}"
            table.add_row(label, *self._cells(rows), end_section=snr == list(by_snr)[-1])
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

    def to_json(self) -> dict[str, Any]:
        """Returns the means over all files and for each SNR, for `json.dumps`. A mean that does not exist is None.

        Returns:
            A dict with `files` (the number of files), `metrics` (by name: `label`, `unit`, `higher_is_better`), `all`
            (by name: `noisy`, `enhanced`, `gain`, and `missing`, the number of files without a value),
            `by_snr` (a list of dicts like `all` that also have `snr` and `files`, from the lowest SNR to the highest;
            files whose SNR is NaN or infinite come last, with the `snr` None)
            and `left_out` (by name, if there are such files: `pair` and `network`, dicts from the ID of a file without
            a value to the reason, which may be "").
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

    def _by_snr(self) -> dict[float | None, list[Row]]:
        """Groups the rows by SNR, lowest first, and last, as None, those whose SNR is not finite.

        Empty if an SNR is not known, or if most files have their own SNR.
        """
        groups: dict[float | None, list[Row]] = {}
        for row in self.rows:
            if row.snr is None:
                return {}
            groups.setdefault(row.snr if math.isfinite(row.snr) else None, []).append(row)
        if len(groups) > max(1, len(self.rows) // 2):
            return {}
        return dict(sorted(groups.items(), key=lambda group: math.inf if group[0] is None else group[0]))

    def _means(self, metric: Metric, rows: Sequence[Row]) -> tuple[float, float]:
        """Returns the mean before and after enhancement; NaN if no file has a value, or if an output has none."""
        pairs = [(row.noisy[metric.name], row.enhanced[metric.name]) for row in rows]
        counted = [pair for pair in pairs if math.isfinite(pair[0])]
        if not counted:
            return math.nan, math.nan
        noisy, enhanced = (_mean(values) for values in zip(*counted, strict=True))
        return noisy, enhanced

    def _mean_table(self, rows: Sequence[Row]) -> dict[str, dict[str, float | int | None]]:
        table = {}
        for metric in self.metrics:
            noisy, enhanced = self._means(metric, rows)
            missing = sum(map(len, _without_value(metric, rows)))
            values = {"noisy": noisy, "enhanced": enhanced, "gain": enhanced - noisy}
            finite = {key: value if math.isfinite(value) else None for key, value in values.items()}
            table[metric.name] = {**finite, "missing": missing}
        return table

    def _cells(self, rows: Sequence[Row]) -> list[str]:
        cells = [str(len(rows))]
        for metric in self.metrics:
            noisy, enhanced = self._means(metric, rows)
            digits = 2 if metric.unit == "dB" else 3
            values = ((noisy, ""), (enhanced, ""), (enhanced - noisy, "+"))
            cells += [f"{value:{sign}.{digits}f}" if math.isfinite(value) else "–" for value, sign in values]
        return cells


def scalar_names(metric: str) -> tuple[str, str, str, str]:
    """Returns the names of the scalars of a metric with a name: the mean, that of the noisy files, the gain, the count.

    The count is the number of files without a value, and is left out if there are none.
    """
    return metric, f"{metric}_noisy", f"{metric}_gain", f"{metric}_missing"


def _without_value(metric: Metric, rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    pairs: list[Row] = []
    outputs: list[Row] = []
    for row in rows:
        if not math.isfinite(row.noisy[metric.name]):
            pairs.append(row)
        elif not math.isfinite(row.enhanced[metric.name]):
            outputs.append(row)
    return pairs, outputs


def _mean(values: Sequence[float]) -> float:
    """Returns the mean; NaN if a value is not finite, also if it is infinite."""
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan


def _fault(row: Row, kind: str) -> str:
    return row.noisy_fault if kind == "noisy" else row.enhanced_fault
