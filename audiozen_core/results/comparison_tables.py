"""Formats a comparison as text: the differences, the files that differ most, and the settings that differ."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from audiozen_core.results.compared import ComparedScores
from audiozen_core.results.paired import PairedDifference, SystemMean
from audiozen_core.results.records import MetricInfo
from audiozen_core.results.rounding import digits, fixed, interval, mark, p_text, signed
from audiozen_core.results.tables import FormattedTable

_HEADINGS = ["mean", "difference", "95 % interval", "p", "better", "worse", "equal", "verdict"]


def text_of(comparison: ComparedScores, files: int) -> str:
    """Returns all tables of a comparison as text.

    Args:
        comparison: the comparison.
        files: how many of the best and of the worst files to show for each metric and system.
    """
    parts = [_means(comparison), *(_by(comparison, condition) for condition in comparison.by)]
    if files:
        parts.append(_files(comparison, files))
    if comparison.settings:
        parts.append(_settings(comparison))
    return "\n\n".join(part.render("text") for part in parts)


def heading(metric: MetricInfo) -> str:
    """Returns the heading of a metric: `↑` if higher values are better, `↓` if lower values are."""
    return f"{metric.heading} {'↑' if metric.higher_is_better else '↓'}"


def method(comparison: ComparedScores, differences: Sequence[PairedDifference]) -> str:
    """Describes in one sentence how the p-values were computed."""
    tested = [difference for difference in differences if not math.isnan(difference.p)]
    exact, count = {difference.exact for difference in tested}, len(tested)
    drawn = max((difference.permutations for difference in tested if not difference.exact), default=0)
    how = [f"{drawn:,} random sign flips"] * (False in exact) + ["all sign flips"] * (True in exact)
    larger = "the larger p of two paired permutation tests, over the files and over the listeners"
    test = larger if len(comparison.listeners) > 1 else "paired permutation test over the files"
    return f"{test} ({' or '.join(how)}), corrected by Holm's method for {count} test{'s' * (count != 1)}"


def _means(comparison: ComparedScores) -> FormattedTable:
    sections = [list(_rows(comparison, metric, comparison.differences, "", "")) for metric in comparison.metrics]
    notes = [
        f"{len(comparison.ids)} file{'s' * (len(comparison.ids) != 1)}{_listeners(comparison)}; difference: system "
        f"minus {comparison.baseline.name}, with its 95 % bootstrap interval in brackets{_over_seeds(comparison)}",
        f"p: {method(comparison, comparison.differences)}; smallest possible p of a test: "
        f"{p_text(min((diff.smallest_p for diff in comparison.differences if not math.isnan(diff.p)), default=1))}",
        "* p < 0.05, ** p < 0.01, *** p < 0.001; better, worse, equal: numbers of files",
        *(metric.described for metric in comparison.metrics if metric.described),
    ]
    return FormattedTable(["metric", "system", *_HEADINGS], sections, notes, left=2)


def _listeners(comparison: ComparedScores) -> str:
    count = len(comparison.listeners)
    return f" and {count} listener{'s' * (count > 1)}" if count else ""


def _over_seeds(comparison: ComparedScores) -> str:
    if not any(difference.over_seeds for difference in comparison.differences):
        return ""
    if comparison.listeners:
        return " over files and listeners"
    return " over files and seeds; ±: standard deviation over seeds"


def _by(comparison: ComparedScores, condition: str) -> FormattedTable:
    sections = [
        [
            [level or "–", *row]
            for metric in comparison.metrics
            for row in _rows(comparison, metric, differences, condition, level)
        ]
        for level, differences in comparison.by[condition].items()
    ]
    flat = [difference for differences in comparison.by[condition].values() for difference in differences]
    return FormattedTable(
        [condition, "metric", "system", *_HEADINGS], sections, [f"p: {method(comparison, flat)}"], left=3
    )


def _rows(
    comparison: ComparedScores, metric: MetricInfo, differences: Sequence[PairedDifference], condition: str, level: str
) -> Iterator[list[str]]:
    means = {
        system.name: comparison.mean(metric.name, system.name, condition, level, interval=False)
        for system in comparison.systems
    }
    decimals = digits(metric, [mean.mean for mean in means.values() if mean])
    by_system = {difference.system: difference for difference in differences if difference.metric == metric.name}
    for system in comparison.systems:
        mean = means[system.name]
        if mean is None:
            continue
        row = ["" if system is not comparison.baseline else heading(metric), system.name, _mean(mean, decimals)]
        if system is comparison.baseline:
            yield [*row, *[""] * (len(_HEADINGS) - 1)]
            continue
        difference = by_system[system.name]
        # A difference is usually smaller than the two means, so it gets one more decimal.
        yield [
            *row,
            signed(difference.mean, decimals + 1),
            interval(difference.low, difference.high, decimals + 1),
            p_text(difference.p_holm),
            *map(str, (difference.better, difference.worse, difference.equal)),
            f"{difference.verdict} {mark(difference.verdict, difference.p_holm)}".strip(),
        ]


def _mean(mean: SystemMean, decimals: int) -> str:
    text = fixed(mean.mean, decimals)
    return f"{text} ± {fixed(mean.deviation, decimals)}" if mean.seeds > 1 else text


def _files(comparison: ComparedScores, count: int) -> FormattedTable:
    sections = []
    for metric in comparison.metrics:
        for difference in comparison.differences:
            if difference.metric != metric.name:
                continue
            files = comparison.files(metric.name, difference.system)
            worst = files[:count]
            best = [row for row in reversed(files[-count:]) if row not in worst]
            decimals = digits(metric, [row.value for row in files]) + 1
            sections.append(
                [
                    [
                        heading(metric),
                        difference.system,
                        which,
                        row.id,
                        fixed(row.baseline, decimals),
                        fixed(row.value, decimals),
                        signed(row.difference, decimals),
                    ]
                    for which, rows in (("worst", worst), ("best", best))
                    for row in rows
                ]
            )
    shown = [row[3] for section in sections for row in section]
    return FormattedTable(
        ["metric", "system", "", "file", comparison.baseline.name, "value", "difference"],
        [section for section in sections if section],
        _audio_lines(comparison, list(dict.fromkeys(shown))),
        left=4,
    )


def _audio_lines(comparison: ComparedScores, ids: Sequence[str]) -> list[str]:
    """Returns a line with the audio folder of each system."""
    lines = []
    for system in comparison.systems:
        paths = [path for name in ids if system.audio and (path := system.audio[0].get(name))]
        if paths:
            lines.append(f"audio of {system.name}: {os.path.commonpath([str(Path(path).parent) for path in paths])}")
    return [*lines, "`audiozen report` plays these files side by side"] if lines else []


def _settings(comparison: ComparedScores) -> FormattedTable:
    names = [system.name for system in comparison.systems]
    rows = [[row.key, *(row.values.get(name, "") for name in names)] for row in comparison.settings]
    return FormattedTable(["setting", *names], [rows], left=1 + len(names))
