"""The results of a test: a table for people, a CSV file with a row for each file, and a summary in JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
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
# What is at fault if a file has no value.
_PAIR, _OUTPUT = 0, 1

STATES = {"noisy": "noisy", "enhanced": "enh."}
"""The states of a file in speech enhancement, with their headings in a table."""


class Report:
    """The values of the files of one data set, and tables of them.

    A file has values in one or more states, such as `noisy` and `enhanced`. The last state is the network's output. If
    there are several, the gain is the mean of the last one minus that of the first one.

    The means of a metric are over the files whose values are finite in all states but the last. In the others the pair
    of signals is at fault; they are counted and listed. If only the last value of a file is not finite, the network is
    at fault: its mean and the gain are then NaN, because the mean of the other files would hide that the network fails.

    Args:
        metrics: the metrics, in the order of the columns. Each has a name of its own.
        rows: the values of all files.
        states: the states of each row, from the input to the output: the name in files to the heading in the table,
            such as `{"mixture": "mixture", "separated": "sep."}`.
        group: what `group` of the rows is called in files; "" if the rows have none.
        group_heading: its heading in the table, in up to two lines.

    Raises:
        DataError: two files have the same ID, or a row lacks a state.
    """

    def __init__(
        self,
        metrics: Sequence[Metric],
        rows: Iterable[Row],
        *,
        states: Mapping[str, str] = STATES,
        group: str = "snr",
        group_heading: str = "SNR\nin dB",
    ) -> None:
        self.metrics = tuple(metrics)
        self.rows = list(rows)
        self.states = dict(states)
        self.group = group
        self.group_heading = group_heading
        *_, self._output = self.states
        counts = Counter(row.id for row in self.rows)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise DataError(
                f"two samples have the ID `{twice[0]}`", remedy="give each sample of the data set an `id` of its own"
            )
        for row in self.rows:
            if lacking := [state for state in self.states if state not in row.values]:
                raise DataError(
                    f"the row `{row.id}` has no values of the state `{lacking[0]}`; it has {', '.join(row.values)}",
                    remedy="name the states of the rows as `states` of the report",
                )

    def summary(self) -> dict[str, float]:
        """Returns the means over all files: `si_sdr` (of the output), `si_sdr_noisy`, `si_sdr_gain`, …

        If there are files without a value, their number is in `si_sdr_missing`, and so on.
        """
        result: dict[str, float] = {}
        for metric in self.metrics:
            *given, output = self._means(metric, self.rows)
            missing = sum(map(len, self.without_value(metric)))
            values = (output, *given, *self._gain([*given, output]).values(), *[missing] * bool(missing))
            result |= zip(scalar_names(metric.name, self.states), values, strict=False)
        return result

    def without_value(self, metric: Metric) -> tuple[list[Row], list[Row]]:
        """Returns the files without a value: those whose pair is at fault, and those with a faulty output."""
        return self._without_value(metric, self.rows)

    def faulty_pairs(self) -> list[str]:
        """Says which files the means leave out because of the pair, and why, in one line for each set of files."""
        return [
            f"{labels}: {count} file{'s are' if count > 1 else ' is'} not in the mean, because the pair has no value: "
            f"{names}"
            for labels, count, names in self._faulty(_PAIR)
        ]

    def faulty_outputs(self) -> list[str]:
        """Says for which files the network has no value, and why, in one line for each set of files."""
        return [
            f"{labels}: there is no mean, because the network's output has no value for {count} of {len(self.rows)} "
            f"files: {names}"
            for labels, count, names in self._faulty(_OUTPUT)
        ]

    def _faulty(self, fault: int) -> Iterator[tuple[str, int, str]]:
        """Yields each set of faulty files: the metrics of which it is the set, its size, and the first IDs.

        The CSV and the JSON have all of them.
        """
        labels: dict[tuple[str, ...], list[str]] = {}
        for metric in self.metrics:
            rows = self.without_value(metric)[fault]
            named = tuple(f"{row.id} ({why})" if (why := self._reason(row, fault)) else row.id for row in rows)
            labels.setdefault(named, []).append(metric.label)
        labels.pop((), None)
        for named, of_metrics in labels.items():
            yield ", ".join(of_metrics), len(named), listed(named)

    def table(self, title: str = "") -> Table:
        """Makes a table of the values in all states, with a line for each group of files and one for all.

        A mean that does not exist is a dash.
        """
        # With these widths, three metrics in two states fit into a terminal of 80 columns.
        table = Table(title=escape(title) or None, box=SIMPLE_HEAD, padding=0)
        groups = self._by_group()
        if groups:
            table.add_column(self.group_heading, justify="right", no_wrap=True)
        table.add_column("\nfiles", justify="right", no_wrap=True)
        for metric in self.metrics:
            unit = f"in {metric.unit}" if metric.unit else ""
            several = len(self.states) > 1
            tops = [metric.label, unit] if several else [f"{metric.label} {unit}".rstrip()]
            headings = [*self.states.values(), *["gain"] * several]
            for index, (top, heading) in enumerate(zip_longest(tops, headings, fillvalue="")):
                table.add_column(
                    f"{top}\n{heading}",
                    justify="right",
                    min_width=6 if index else 7,
                    style="bold" if index == len(self.states) - 1 else None,
                    no_wrap=True,
                )
        for value, rows in groups.items():
            label = "inf, NaN" if value is None else f"{value:g}"
            table.add_row(label, *self._cells(rows), end_section=value == list(groups)[-1])
        table.add_row(*["all"] * bool(groups), *self._cells(self.rows))
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
        """Returns the means over all files and for each group, for `json.dumps`. A mean that does not exist is None.

        Returns:
            A dict with `files` (the number of files), `metrics` (by name: `label`, `unit`, `higher_is_better`), `all`
            (by name: the mean of each state, `gain`, and `missing`, the number of files without a value),
            `by_<group>` if there is a group (a list of dicts like `all` that also have the group and `files`, from the
            lowest number to the highest; files whose number is NaN or infinite come last, with None as the number)
            and `left_out` (by name, if there are such files: `pair` and `network`, dicts from the ID of a file without
            a value to the reason, which may be "").
        """
        described = {
            metric.name: {"label": metric.label, "unit": metric.unit, "higher_is_better": metric.higher_is_better}
            for metric in self.metrics
        }
        content = {"files": len(self.rows), "metrics": described, "all": self._mean_table(self.rows)}
        if self.group:
            content[f"by_{self.group}"] = [
                {self.group: value, "files": len(rows), **self._mean_table(rows)}
                for value, rows in self._by_group().items()
            ]
        left_out = {}
        for metric in self.metrics:
            without = self.without_value(metric)
            if any(without):
                left_out[metric.name] = {
                    whose: {row.id: self._reason(row, fault) for row in without[fault]}
                    for whose, fault in (("pair", _PAIR), ("network", _OUTPUT))
                }
        return {**content, "left_out": left_out}

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
        columns = [(metric.name, state) for metric in self.metrics for state in self.states]
        named = [self.group] * bool(self.group)
        writer.writerow(["id", *named, *(f"{name}_{state}" for name, state in columns), "note"])
        for row in self.rows:
            group = ["" if row.group is None else f"{row.group:g}" for _ in named]
            values = [row.values[state][name] for name, state in columns]
            cells = (f"{value:.6g}" if math.isfinite(value) else "" for value in values)
            writer.writerow([row.id, *group, *cells, "; ".join(row.faults.values())])
        make_folder(path.parent)
        write_whole(path, text.getvalue())
        return path

    def _by_group(self) -> dict[float | None, list[Row]]:
        """Groups the rows by number, lowest first, and last, as None, those whose number is not finite.

        Empty if a number is not known, or if most files have their own number.
        """
        groups: dict[float | None, list[Row]] = {}
        for row in self.rows:
            if row.group is None:
                return {}
            groups.setdefault(row.group if math.isfinite(row.group) else None, []).append(row)
        if len(groups) > max(1, len(self.rows) // 2):
            return {}
        return dict(sorted(groups.items(), key=lambda group: math.inf if group[0] is None else group[0]))

    def _means(self, metric: Metric, rows: Iterable[Row]) -> list[float]:
        """Returns the mean in each state; NaN if no file counts, or if one that counts has no value."""
        counted = [row for row in rows if self._fault(metric, row) != _PAIR]
        return [_mean([row.values[state][metric.name] for row in counted]) for state in self.states]

    def _without_value(self, metric: Metric, rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
        faults = [(row, self._fault(metric, row)) for row in rows]
        return [row for row, fault in faults if fault == _PAIR], [row for row, fault in faults if fault == _OUTPUT]

    def _fault(self, metric: Metric, row: Row) -> int | None:
        """Says what is at fault if a file has no value: the pair or the output. None if it has one."""
        *given, output = (math.isfinite(row.values[state][metric.name]) for state in self.states)
        if row.faults.keys() - {self._output} or not all(given):
            return _PAIR
        return None if output else _OUTPUT

    def _reason(self, row: Row, fault: int) -> str:
        """Says why a file has no value, in the words of the row: because of the pair or of the output."""
        return "; ".join(reason for kind, reason in row.faults.items() if (kind == self._output) == (fault == _OUTPUT))

    def _mean_table(self, rows: Sequence[Row]) -> dict[str, dict[str, float | int | None]]:
        table = {}
        for metric in self.metrics:
            means = dict(zip(self.states, self._means(metric, rows), strict=True))
            values = {**means, **self._gain(list(means.values()))}
            finite = {key: value if math.isfinite(value) else None for key, value in values.items()}
            table[metric.name] = {**finite, "missing": sum(map(len, self._without_value(metric, rows)))}
        return table

    def _cells(self, rows: Sequence[Row]) -> list[str]:
        cells = [str(len(rows))]
        for metric in self.metrics:
            means = self._means(metric, rows)
            digits = 2 if metric.unit == "dB" else 3
            values = [(mean, "") for mean in means] + [(gain, "+") for gain in self._gain(means).values()]
            cells += [f"{value:{sign}.{digits}f}" if math.isfinite(value) else "–" for value, sign in values]
        return cells

    def _gain(self, means: Sequence[float]) -> dict[str, float]:
        """Returns the gain from the first state to the last; nothing if there is only one state."""
        return {"gain": means[-1] - means[0]} if len(means) > 1 else {}


def scalar_names(metric: str, states: Iterable[str] = STATES) -> tuple[str, ...]:
    """Returns the names of the scalars of a metric: the mean of the output, those of the other states, gain and count.

    The count is the number of files without a value, and is left out if there are none. There is no gain if there is
    only one state.

    Example:
        >>> scalar_names("stoi", ["mixture", "separated"]), scalar_names("stoi", ["decoded"])
        (('stoi', 'stoi_mixture', 'stoi_gain', 'stoi_missing'), ('stoi', 'stoi_missing'))
    """
    *given, _ = states
    return (metric, *(f"{metric}_{state}" for state in given), *[f"{metric}_gain"] * bool(given), f"{metric}_missing")


def _mean(values: Sequence[float]) -> float:
    """Returns the mean; NaN if there is no value, or if one is not finite, also if it is infinite."""
    return math.fsum(values) / len(values) if values and all(map(math.isfinite, values)) else math.nan
