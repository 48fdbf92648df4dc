"""Formats the means of several systems as a table for a paper, in LaTeX or Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from audiozen_core.diagnostics.printable import printable
from audiozen_core.results.aligning import markdown_table
from audiozen_core.results.compared import ComparedScores
from audiozen_core.results.comparison_tables import heading, method
from audiozen_core.results.paired import PairedDifference, SystemMean
from audiozen_core.results.records import MetricInfo
from audiozen_core.results.rounding import digits, fixed, interval, mark
from audiozen_core.results.tables import TableForm, latex_cell, latex_text


@dataclass(frozen=True, slots=True)
class _Cell:
    """A cell of the table.

    Attributes:
        value: the text of the value.
        best: whether the value is the best of its column.
        rest: text that follows the value, such as its standard deviation and its interval.
        mark: asterisks for a significant difference.
    """

    value: str
    best: bool = False
    rest: str = ""
    mark: str = ""

    def latex(self) -> str:
        value = latex_cell(self.value)
        value = f"$-${value[1:]}" if value.startswith("-") else value
        value = rf"\textbf{{{value}}}" if self.best else value
        mark = f"$^{{{self.mark}}}$" if self.mark else ""
        rest = latex_text(self.rest).replace("[-", "[$-$").replace(", -", ", $-$")
        return f"{value}{mark} {rest}".rstrip()

    def markdown(self) -> str:
        value = f"**{self.value}**" if self.best else self.value.replace("|", r"\|")
        mark = self.mark.replace("*", r"\*")
        return f"{value}{mark} {self.rest}".rstrip()


def paper_table(comparison: ComparedScores, form: TableForm, *, intervals: bool = False) -> str:
    """Returns a table with a row for each system and a column for each metric, and a caption that explains the marks.

    With conditions, the table has a section for each value of each condition, and a last section for all files.

    Args:
        comparison: the comparison.
        form: `latex` (the environment `table`, for the package booktabs) or `markdown`.
        intervals: whether to add the 95 % interval of each mean.
    """
    sections = [
        _section(comparison, condition, level, differences, intervals)
        for condition, levels in comparison.by.items()
        for level, differences in levels.items()
    ]
    sections.append(_section(comparison, "", "", comparison.differences, intervals))
    headings = [*["condition"] * bool(comparison.by), "system", *map(heading, comparison.metrics)]
    caption = _caption(comparison, intervals)
    left = 1 + bool(comparison.by)
    if form == "latex":
        return _latex(headings, sections, caption, left)
    return _markdown(headings, sections, caption, left)


def _section(
    comparison: ComparedScores, condition: str, level: str, differences: Sequence[PairedDifference], intervals: bool
) -> list[list[_Cell]]:
    columns = [_column(comparison, metric, condition, level, differences, intervals) for metric in comparison.metrics]
    rows = []
    for index, system in enumerate(comparison.systems):
        label = f"{condition} {level or '–'}" if condition else "all"
        first = [_Cell("" if index else label)] * bool(comparison.by)
        rows.append([*first, _Cell(printable(system.name)), *(column[index] for column in columns)])
    return rows


def _column(
    comparison: ComparedScores,
    metric: MetricInfo,
    condition: str,
    level: str,
    differences: Sequence[PairedDifference],
    intervals: bool,
) -> list[_Cell]:
    means = [
        comparison.mean(metric.name, system.name, condition, level, interval=intervals) for system in comparison.systems
    ]
    finite = [
        mean.mean
        for system, mean in zip(comparison.systems, means, strict=True)
        if mean is not None and math.isfinite(mean.mean) and not system.is_control
    ]
    decimals = digits(metric, finite)
    # The rounded texts are compared, so all means that are printed like the best mean are bold.
    best = fixed((max if metric.higher_is_better else min)(finite), decimals) if finite else ""
    marks = {
        difference.system: mark(difference.verdict, difference.p_holm)
        for difference in differences
        if difference.metric == metric.name
    }
    return [
        _cell(mean, decimals, "" if system.is_control else best, marks.get(system.name, ""), intervals)
        for system, mean in zip(comparison.systems, means, strict=True)
    ]


def _cell(mean: SystemMean | None, decimals: int, best: str, asterisks: str, intervals: bool) -> _Cell:
    if mean is None or not math.isfinite(mean.mean):
        return _Cell("–")
    value = fixed(mean.mean, decimals)
    rest = [f"± {fixed(mean.deviation, decimals)}"] * (mean.seeds > 1)
    rest += [interval(mean.low, mean.high, decimals)] * intervals
    return _Cell(value, value == best, " ".join(rest), asterisks)


def _caption(comparison: ComparedScores, intervals: bool) -> str:
    name = printable(comparison.baseline.name)
    listeners = f" and {len(comparison.listeners)} listeners" * bool(comparison.listeners)
    parts = [f"Means over {len(comparison.ids)} files{listeners}"]
    fewer = [
        f"{metric.label or metric.name}: {count}"
        for metric in comparison.metrics
        if (count := len(comparison.files_of(metric.name))) != len(comparison.ids)
    ]
    parts[0] += f" ({', '.join(fewer)})" * bool(fewer)
    seeds = {system.name: len(system.runs) for system in comparison.systems if len(system.runs) > 1}
    if seeds:
        shown = ", ".join(f"{printable(system)}: {count}" for system, count in seeds.items())
        parts.append(f"±: standard deviation over seeds ({shown})")
    parts.append("Bold: best mean")
    parts.append(
        f"Asterisks: significant difference from {name}, * p < 0.05, ** p < 0.01, *** p < 0.001; "
        f"p: {method(comparison, comparison.differences)}{' and per condition' * bool(comparison.by)}"
    )
    if seeds or len(comparison.listeners) > 1:
        over = "seeds" if seeds else "listeners"
        parts[-1] += f"; the 95 % interval of the difference over files and {over} also excludes zero"
    if intervals:
        second = " and listeners" if comparison.listeners else " and seeds" * bool(seeds)
        parts.append(f"In brackets: 95 % bootstrap interval over files{second}")
    return ". ".join(parts) + "."


def _latex(headings: Sequence[str], sections: Sequence[Sequence[Sequence[_Cell]]], caption: str, left: int) -> str:
    columns = "l" * left + "r" * (len(headings) - left)
    lines = [
        r"\begin{table}[tb]",
        r"\centering",
        rf"\caption{{{_symbols(latex_text(caption))}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(_symbols(latex_text(text)) for text in map(printable, headings)) + r" \\",
    ]
    for section in sections:
        lines += [r"\midrule", *(" & ".join(cell.latex() for cell in row) + r" \\" for row in section)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def _symbols(text: str) -> str:
    """Replaces arrows and the signs < and > with LaTeX math, because LaTeX text can't print them directly."""
    for symbol, command in (("↑", r"$\uparrow$"), ("↓", r"$\downarrow$"), ("<", "$<$"), (">", "$>$")):
        text = text.replace(symbol, command)
    return text


def _markdown(headings: Sequence[str], sections: Sequence[Sequence[Sequence[_Cell]]], caption: str, left: int) -> str:
    rows = [[cell.markdown() for cell in row] for section in sections for row in section]
    lines = markdown_table([printable(text).replace("|", r"\|") for text in headings], rows, left)
    return "\n".join([*lines, "", caption.replace("*", r"\*")])
