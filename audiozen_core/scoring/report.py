"""Reports the results of a test: as a table, as a CSV file with a row per file, and as a JSON summary."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import DataError, RunError
from audiozen_core.results.files import finite_or_none, write_csv, write_json
from audiozen_core.results.rounding import fixed, signed
from audiozen_core.scoring.identity import identities, identity_of
from audiozen_core.scoring.metric import NEEDS, Metric, needs_of
from audiozen_core.scoring.rating import RatedFile

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# The maximum width of a table, in characters.
_WIDEST = 100_000
# What is at fault if a file has no value: the pair of signals, or the network's output.
_PAIR, _OUTPUT = 0, 1
# Names that a state can't have, because the summary, the CSV and the JSON use them for something else.
_TAKEN_STATES = ("gain", "missing")
_TAKEN_GROUPS = ("files", "means", "id", "note")

STATES = {"noisy": "noisy", "enhanced": "enh."}
"""The states of a file in speech enhancement, with their headings in tables."""


class Report:
    """The values of all files of a data set. Computes means, and creates tables, CSV files and JSON files.

    A file has values in one or more states, such as `noisy` and `enhanced`. The last state is the network's output. If
    there are several states, the gain is the improvement of the mean from the first state to the last state. A positive
    gain is always an improvement, even if lower values of the metric are better.

    The means of a metric include the files whose values are finite in all states except the last one. All other files
    have a faulty pair of signals, and the report counts and lists them. If only the value of the last state is not
    finite, the network's output is at fault. The mean of the last state and the gain are then NaN, because a mean over
    the remaining files would hide the network's failure.

    Args:
        metrics: the metrics, in the order of the columns. Their names must differ.
        rows: the values of all files.
        states: the states of each row, from the input to the output. The dict maps the name in files to the heading in
            tables, such as `{"mixture": "mixture", "separated": "sep."}`. No state may be called `gain` or `missing`.
        group: the name of the CSV column and the JSON key for the `group` of the rows. If it is "", the rows are not
            grouped. The names `files`, `means`, `id` and `note` are reserved.
        group_heading: the heading of the group in the table, in up to two lines.
        sr: the sample rate of the files, in hertz. The identity of each metric includes the sample rate.

    Raises:
        RunError: `states` is empty, or the name of a state or of the group is reserved.
        DataError: two files have the same ID, or a row lacks a state.
    """

    def __init__(
        self,
        metrics: Sequence[Metric],
        rows: Iterable[RatedFile],
        *,
        states: Mapping[str, str] = STATES,
        group: str = "snr",
        group_heading: str = "SNR\nin dB",
        sr: int | None = None,
    ) -> None:
        self.metrics = tuple(metrics)
        self.rows = list(rows)
        self.states = dict(states)
        self.group = group
        self.group_heading = group_heading
        self.sr = sr
        self._check_names()
        *_, self._output = self.states
        counts = Counter(row.id for row in self.rows)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise DataError(
                f"two samples have the ID `{twice[0]}`", remedy="give each sample of the data set a unique `id`"
            )
        for row in self.rows:
            if lacking := [state for state in self.states if state not in row.values]:
                raise DataError(
                    f"the row `{row.id}` has no values for the state `{lacking[0]}`; it has {', '.join(row.values)}",
                    remedy="pass the states of the rows as `states` of the report",
                )

    def _check_names(self) -> None:
        if not self.states:
            raise RunError(
                "a report needs at least one state", remedy='give it `states`, such as {"decoded": "decoded"}'
            )
        for state in _TAKEN_STATES:
            if state in self.states:
                raise RunError(
                    f"a state can't be called `{state}`, because a report has its own value `{state}` for each metric",
                    remedy="give the state another name",
                )
        if self.group in (*_TAKEN_GROUPS, *(f"{name}_{state}" for name, state in self._columns)):
            raise RunError(
                f"the group can't be called `{self.group}`, because the files of a report have another entry with this "
                "name",
                remedy="give the group another name",
            )

    def summary(self) -> dict[str, float]:
        """Returns the means over all files: `si_sdr` (of the output), `si_sdr_noisy`, `si_sdr_gain`, …

        `si_sdr_missing` is the number of files without a value. This key is left out if all files have a value.
        """
        result: dict[str, float] = {}
        for metric in self.metrics:
            means = dict(zip(self.states, self._means(metric, self.rows), strict=True))
            gain = self._gain(metric, list(means.values()))
            result[metric.name] = means.pop(self._output)
            result |= {f"{metric.name}_{key}": value for key, value in (means | gain).items()}
            if missing := sum(map(len, self.without_value(metric))):
                result[f"{metric.name}_missing"] = missing
        return result

    def without_value(self, metric: Metric) -> tuple[list[RatedFile], list[RatedFile]]:
        """Returns two lists of rows without a value: with a faulty pair of signals, and with a faulty output."""
        return self._without_value(metric, self.rows)

    def faulty_pairs(self) -> list[str]:
        """Returns messages about the files that the means leave out because of a faulty pair, with the reasons.

        Metrics that leave out the same files share a message.
        """
        return [
            f"{labels}: {count} file{'s are' if count > 1 else ' is'} not in the mean, because the pair has no value: "
            f"{names}"
            for labels, count, names in self._faulty(_PAIR)
        ]

    def faulty_outputs(self) -> list[str]:
        """Returns messages about the files for which the network's output has no value, with the reasons.

        Metrics that lack a value for the same files share a message.
        """
        return [
            f"{labels}: the mean is left out, because the network's output has no value for {count} of "
            f"{len(self.rows)} files: {names}"
            for labels, count, names in self._faulty(_OUTPUT)
        ]

    def _faulty(self, fault: int) -> Iterator[tuple[str, int, str]]:
        """Yields the labels of the metrics that leave out the same files, and the number and the first IDs of these
        files.

        The CSV and JSON files contain all IDs.
        """
        labels: dict[tuple[str, ...], list[str]] = {}
        for metric in self.metrics:
            rows = self.without_value(metric)[fault]
            named = tuple(f"{row.id} ({why})" if (why := self._reason(metric, row, fault)) else row.id for row in rows)
            labels.setdefault(named, []).append(metric.label)
        labels.pop((), None)
        for named, metric_labels in labels.items():
            yield ", ".join(metric_labels), len(named), listed(named)

    def table(self, title: str = "") -> Table:
        """Returns a table of the means in all states, with a row for each group and a row for all files.

        A missing mean is shown as a dash.
        """
        from rich.box import SIMPLE_HEAD
        from rich.markup import escape
        from rich.table import Table

        # Without padding, three metrics in two states fit into a terminal of 80 columns.
        table = Table(title=escape(title) or None, box=SIMPLE_HEAD, padding=0)
        groups = self._by_group()
        if groups:
            table.add_column(self.group_heading, justify="right", no_wrap=True)
        table.add_column("\nfiles", justify="right", no_wrap=True)
        for metric in self.metrics:
            unit = f"in {metric.unit}" if metric.unit else ""
            headings = list(self.states.values())
            if len(headings) > 1:
                headings.append("gain")
                tops = [metric.label, unit]
            else:
                tops = [f"{metric.label} {unit}".rstrip()]
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
        table.add_row(*(["all"] if groups else []), *self._cells(self.rows))
        return table

    def show(self, title: str, console: Console) -> None:
        """Prints the title, the table, the files that the means leave out, and the identity of each metric.

        A table that is wider than the console is printed in full. Otherwise rich, which assumes that a pipe has 80
        columns, would replace numbers by dots.
        """
        table = self.table()
        console.width = max(
            console.width, console.measure(table, options=console.options.update(width=_WIDEST)).maximum
        )
        # The title is not part of the table, because rich would wrap the title to the width of a narrow table.
        console.print(title, markup=False, highlight=False, soft_wrap=True)
        console.print(table)
        identities = [identity_of(metric, self.sr).line() for metric in self.metrics]
        for line in (*self.faulty_pairs(), *self.faulty_outputs(), *identities):
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    def to_json(self) -> dict[str, Any]:
        """Returns the content of the JSON file: the means over all files and for each group.

        Returns:
            A dict for `json.dumps`. A missing mean is None. The keys are:

            - `files`: the number of files.
            - `metrics`: by the name of the metric, the attributes of its `MetricIdentity`.
            - `all`: by the name of the metric, the mean of each state, `gain`, and `missing`, the number of files
              without a value.
            - `by_<group>`, if `group` is not "": a list with a dict for each group, sorted by the group's number. Each
              dict has the keys `<group>` (the group's number), `files` (the number of files) and `means` (with the same
              structure as `all`). Files whose number is NaN or infinite come last, in a group with None as its number.
            - `left_out`: by the name of the metric, the files without a value, if there are any. `pair` and `network`
              are dicts from the ID of a file to the reason, or to "" if the reason is unknown.
        """
        content = {
            "files": len(self.rows),
            "metrics": identities(self.metrics, self.sr),
            "all": self._mean_table(self.rows),
        }
        if self.group:
            content[f"by_{self.group}"] = [
                {self.group: value, "files": len(rows), "means": self._mean_table(rows)}
                for value, rows in self._by_group().items()
            ]
        left_out = {}
        for metric in self.metrics:
            without = self.without_value(metric)
            if any(without):
                left_out[metric.name] = {
                    whose: {row.id: self._reason(metric, row, fault) for row in without[fault]}
                    for whose, fault in (("pair", _PAIR), ("network", _OUTPUT))
                }
        return {**content, "left_out": left_out}

    def write_json(self, path: Path) -> Path:
        """Writes the result of `to_json` to a file, completely or not at all."""
        return write_json(path, self.to_json())

    def write_csv(self, path: Path) -> Path:
        """Writes a CSV file with a row for each file, and a JSON file with the identities of the metrics.

        The JSON file, `scores.metrics.json` for `scores.csv`, maps the name of each metric to its `MetricIdentity`. The
        identities have a separate file, so that any program can read the CSV with its default options. Each file is
        written completely or not at all.

        If there are several states, each metric also has a column with the gain. A value that is not finite becomes an
        empty cell, and the last column, `note`, gives the reason.
        """
        kinds = [*self.states, *(["gain"] if len(self.states) > 1 else [])]
        columns = [f"{metric.name}_{kind}" for metric in self.metrics for kind in kinds]
        header = ["id", *([self.group] if self.group else []), *columns, "note"]
        return write_csv(path, header, map(self._cells_of, self.rows), identities(self.metrics, self.sr))

    def _cells_of(self, row: RatedFile) -> list[str | float]:
        """Returns the cells of a row of the CSV file."""
        cells: list[str | float] = [row.id]
        if self.group:
            cells.append("" if row.group is None else f"{row.group:g}")
        for metric in self.metrics:
            values = [row.values[state][metric.name] for state in self.states]
            cells += [*values, *self._gain(metric, values).values()]
        return [*cells, "; ".join(row.faults.values())]

    @property
    def _columns(self) -> list[tuple[str, str]]:
        """The metric's name and the state for each value in a row."""
        return [(metric.name, state) for metric in self.metrics for state in self.states]

    def _by_group(self) -> dict[float | None, list[RatedFile]]:
        """Groups the rows by their `group`, sorted from the lowest number to the highest.

        Rows whose number is not finite come last, under None. The result is empty if the rows are not grouped, if a row
        has no number, or if there are more than half as many groups as files.
        """
        if not self.group:
            return {}
        groups: dict[float | None, list[RatedFile]] = {}
        for row in self.rows:
            if row.group is None:
                return {}
            groups.setdefault(row.group if math.isfinite(row.group) else None, []).append(row)
        if len(groups) > max(1, len(self.rows) // 2):
            return {}
        return dict(sorted(groups.items(), key=lambda group: math.inf if group[0] is None else group[0]))

    def _means(self, metric: Metric, rows: Iterable[RatedFile]) -> list[float]:
        """Returns the mean in each state; NaN if all rows are left out, or if one of the other rows has no value."""
        counted = [row for row in rows if self._fault(metric, row) != _PAIR]
        return [_mean([row.values[state][metric.name] for row in counted]) for state in self.states]

    def _without_value(self, metric: Metric, rows: Iterable[RatedFile]) -> tuple[list[RatedFile], list[RatedFile]]:
        faults = [(row, self._fault(metric, row)) for row in rows]
        return [row for row, fault in faults if fault == _PAIR], [row for row, fault in faults if fault == _OUTPUT]

    def _fault(self, metric: Metric, row: RatedFile) -> int | None:
        """Returns what is at fault for a missing value, `_PAIR` or `_OUTPUT`; None if the file has a value."""
        *inputs, output = (math.isfinite(row.values[state][metric.name]) for state in self.states)
        # A faulty state has no finite value, which `inputs` shows. Faults of other signals are checked separately.
        if self._faults(metric, row).keys() - self.states.keys() or not all(inputs):
            return _PAIR
        return None if output else _OUTPUT

    def _faults(self, metric: Metric, row: RatedFile) -> dict[str, str]:
        """Returns the faults of a row that affect a metric: faults of states and of inputs that the metric needs."""
        needs = needs_of(metric)
        return {
            kind: reason
            for kind, reason in row.faults.items()
            if kind in self.states or ("clean" if kind not in NEEDS else kind) in needs
        }

    def _reason(self, metric: Metric, row: RatedFile, fault: int) -> str:
        """Returns why a metric has no value for a row: the faults of the pair of signals, or of the output."""
        faults = self._faults(metric, row)
        return "; ".join(reason for kind, reason in faults.items() if (kind == self._output) == (fault == _OUTPUT))

    def _mean_table(self, rows: Sequence[RatedFile]) -> dict[str, dict[str, float | int | None]]:
        table = {}
        for metric in self.metrics:
            means = dict(zip(self.states, self._means(metric, rows), strict=True))
            values = {**means, **self._gain(metric, list(means.values()))}
            finite = {key: finite_or_none(value) for key, value in values.items()}
            table[metric.name] = {**finite, "missing": sum(map(len, self._without_value(metric, rows)))}
        return table

    def _cells(self, rows: Sequence[RatedFile]) -> list[str]:
        cells = [str(len(rows))]
        for metric in self.metrics:
            means = self._means(metric, rows)
            digits = 2 if metric.unit == "dB" else 3
            cells += [fixed(mean, digits) for mean in means]
            cells += [signed(gain, digits) for gain in self._gain(metric, means).values()]
        return cells

    def _gain(self, metric: Metric, means: Sequence[float]) -> dict[str, float]:
        """Returns the improvement from the first state to the last as `gain`; an empty dict for a single state."""
        if len(means) == 1:
            return {}
        return {"gain": means[-1] - means[0] if metric.higher_is_better else means[0] - means[-1]}


def scalar_names(metric: str, states: Sequence[str] | Mapping[str, str] = STATES) -> tuple[str, ...]:
    """Returns the names of a metric's scalars: the mean of each state, the gain, and the number of missing values.

    The number of missing values is recorded only if it is not 0. With a single state, the gain is left out.

    Example:
        >>> scalar_names("stoi", ["mixture", "separated"]), scalar_names("stoi", ["decoded"])
        (('stoi', 'stoi_mixture', 'stoi_gain', 'stoi_missing'), ('stoi', 'stoi_missing'))
    """
    *inputs, _ = states
    kinds = [*inputs, "gain", "missing"] if inputs else ["missing"]
    return (metric, *(f"{metric}_{kind}" for kind in kinds))


def _mean(values: Sequence[float]) -> float:
    """Returns the mean; NaN if there is no value, or if a value is NaN or infinite."""
    return math.fsum(values) / len(values) if values and all(map(math.isfinite, values)) else math.nan
