"""Groups the curves of all runs into charts, and sorts the charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from audiozen_core.report.history import ScalarCurve
from audiozen_core.report.subjects import ReportRun

_PARTS = ("train", "validate", "step")
_FIRST = ("loss", "score")
_LATER = ("lr", "grad_norm")


@dataclass(frozen=True, slots=True)
class Line:
    """One curve of a chart.

    Attributes:
        run: the label of the run.
        system: the name of the system that the run belongs to.
        series: the index of the colour.
        part: `train`, `validate`, `step`, `noisy` for unprocessed files, or "" for other curves.
        curve: the points of the curve.
    """

    run: str
    system: str
    series: int
    part: str
    curve: ScalarCurve


@dataclass(slots=True)
class Chart:
    """The curves of one scalar in all runs.

    Attributes:
        name: the name of the scalar without its part, such as `loss`.
        lines: the curves.
        notes: sentences about values that are missing from the chart or not finite.
    """

    name: str
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def described(self) -> str:
        """A description for screen readers: the first and the last value of each curve."""
        parts = []
        for line in self.lines:
            finite = [value for value in line.curve.values if math.isfinite(value)]
            if finite:
                name = f"{line.run} {line.part}".strip()
                parts.append(f"{name} from {finite[0]:.4g} to {finite[-1]:.4g} in {line.curve.recorded} values")
        return "; ".join(parts) or "no finite value"

    def to_json(self) -> dict[str, Any]:
        """Returns the data of the chart for the script of the page."""
        return {
            "name": self.name,
            "lines": [
                {
                    "run": line.run,
                    "series": line.series,
                    "part": line.part,
                    "steps": line.curve.steps,
                    "epochs": line.curve.epochs,
                    "values": [_short(value) for value in line.curve.values],
                }
                for line in self.lines
            ],
        }


def make_charts(histories: Sequence[tuple[ReportRun, Mapping[str, ScalarCurve]]]) -> list[Chart]:
    """Groups the curves of runs into charts: one for each scalar, with its training and validation curves."""
    charts: dict[str, Chart] = {}
    for run, curves in histories:
        for name, curve in _without_copies(curves).items():
            part, _, rest = name.partition("/")
            title, part = (rest, part) if part in _PARTS and rest else (name, "")
            if title.endswith("_noisy") and f"{part}/{title.removesuffix('_noisy')}" in curves:
                title, part = title.removesuffix("_noisy"), "noisy"
            chart = charts.setdefault(title, Chart(title))
            if part == "noisy" and (duplicate := _with_same_beginning(chart, curve)):
                # The runs were validated on the same files, so only the longest line is drawn.
                if len(duplicate.curve.values) >= len(curve.values):
                    continue
                chart.lines.remove(duplicate)
            chart.lines.append(Line(run.label, run.system, run.series, part, curve))
    for chart in charts.values():
        chart.notes += _notes(chart)
    return sorted(charts.values(), key=lambda chart: _rank(chart, [*charts]))


def _with_same_beginning(chart: Chart, curve: ScalarCurve) -> Line | None:
    """Returns a line of unprocessed files that equals a curve up to the end of the shorter of the two, or None."""
    return next(
        (
            line
            for line in chart.lines
            if line.part == "noisy"
            and all(first == second for first, second in zip(line.curve.values, curve.values, strict=False))
        ),
        None,
    )


def _without_copies(curves: Mapping[str, ScalarCurve]) -> dict[str, ScalarCurve]:
    """Removes curves that duplicate another curve: a score that equals a metric, and `train/lr` if `step/lr` exists."""
    kept = dict(curves)
    score = curves.get("validate/score")
    if score and any(
        name.startswith("validate/") and name != "validate/score" and curve.values == score.values
        for name, curve in curves.items()
    ):
        del kept["validate/score"]
    if "step/lr" in kept:
        kept.pop("train/lr", None)
    return kept


def _rank(chart: Chart, names: Sequence[str]) -> tuple[int, int]:
    parts = {line.part for line in chart.lines}
    if chart.name in _FIRST:
        group = 0
    elif "validate" in parts and "/" not in chart.name:
        group = 1
    else:
        group = 2 if chart.name in _LATER else 3
    return group, names.index(chart.name)


def _notes(chart: Chart) -> list[str]:
    notes = []
    for line in chart.lines:
        part = f"{line.part} " if line.part else ""
        if line.curve.not_finite:
            notes.append(f"{line.run}: {line.curve.not_finite} of {line.curve.recorded} {part}values are not finite.")
        if line.curve.recorded > len(line.curve.values):
            notes.append(
                f"{line.run}: {len(line.curve.values)} of {line.curve.recorded:,} {part}values are drawn: the minimum "
                "and the maximum of each interval."
            )
    return notes


def _short(value: float) -> float:
    return float(f"{value:.6g}") if math.isfinite(value) else value
