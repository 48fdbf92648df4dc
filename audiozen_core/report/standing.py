"""Compares the systems of a report with the first system, as far as this is possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from audiozen_core.comparison.compare import compare_loaded
from audiozen_core.comparison.load_systems import LoadedSystem
from audiozen_core.diagnostics.listed import listed, plural
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.errors import DataError, RunError
from audiozen_core.report.subjects import Subject
from audiozen_core.results.comparison import Comparison
from audiozen_core.results.id_table import audio_id
from audiozen_core.results.records import MetricInfo
from audiozen_core.results.systems import ScoredSystem

_MOST_LEVELS = 12  # A condition with more values is probably a label of single files, and its table would be long.


@dataclass(frozen=True, slots=True)
class Standing:
    """The scores of the systems in a report, and their comparison.

    Attributes:
        systems: all systems with scores, in the order of the user. If there is only one system, the unprocessed files
            come first.
        series: the index of each system's colour, by name; -1 for the unprocessed files.
        unprocessed: the unprocessed files as a system; None if no test has scored them.
        comparison: the comparison with the first system; None if no systems can be compared.
        metric: the metric that ranks the files; None without scores.
        notes: warnings and remarks on the comparison.
    """

    systems: tuple[LoadedSystem, ...]
    series: dict[str, int]
    unprocessed: LoadedSystem | None
    comparison: Comparison | None
    metric: MetricInfo | None
    notes: tuple[str, ...]

    @property
    def metrics(self) -> tuple[MetricInfo, ...]:
        """All metrics of all systems. Compared metrics come first."""
        if self.comparison is None:
            all_metrics = [metric for system in self.systems for metric in system.scored.metrics.values()]
            return tuple({metric.name: metric for metric in all_metrics}.values())
        first, *others = self.comparison.systems
        # Shared columns that the comparison does not include are conditions, such as the SNR, and not metrics.
        shared = {name for system in others for name in system.metrics if name in first.metrics}
        metrics = {metric.name: metric for metric in self.comparison.metrics}
        for system in self.systems:
            for name, metric in system.scored.metrics.items():
                if name not in shared:
                    metrics.setdefault(name, metric)
        return tuple(metrics.values())

    @property
    def compared(self) -> set[str]:
        """The names of the compared systems, including the first system."""
        return {system.name for system in self.comparison.systems} if self.comparison else set()


def compare_subjects(
    subjects: Sequence[Subject],
    *,
    metric: str | None,
    by: Sequence[str],
    lower_is_better: Sequence[str],
    conditions: str | Path | None,
) -> Standing:
    """Compares the systems with the first system, as far as this is possible.

    Args:
        subjects: the systems.
        metric: the metric that ranks the files; None for the first compared metric.
        by: the conditions by which the files are grouped; empty for the conditions in the scores.
        lower_is_better: the metrics for which lower values are better, in case the scores don't give the direction.
        conditions: a CSV, TSV or JSONL file with the conditions of the files.

    Raises:
        RunError: the metric or a condition is unknown.
    """
    tested = [subject for subject in subjects if subject.loaded]
    systems = [subject.loaded for subject in tested if subject.loaded]
    series = {subject.name: subject.series for subject in tested}
    unprocessed = _unprocessed(systems, set(series))
    if unprocessed:
        series[unprocessed.scored.name] = -1
    comparable, notes = systems, []
    if len(systems) == 1 and unprocessed:
        comparable = systems = [unprocessed, *systems]
    elif len(systems) > 1:
        ids = set(systems[0].scored.ids)
        comparable = [system for system in systems if ids & set(system.scored.ids)]
        left_out = [system.scored.name for system in systems if system not in comparable]
        if left_out:
            notes.append(
                f"not compared, because of a different test set than {systems[0].scored.name}: {listed(left_out)}; "
                "test all systems on the same files, with the same IDs"
            )
    comparison = None
    if len(comparable) > 1:
        try:
            comparison = compare_loaded(
                comparable, by=by or _conditions(comparable[0]), lower_is_better=lower_is_better, conditions=conditions
            )
            notes += comparison.notes
        except DataError as error:
            notes.append(f"the scores are not compared: {error.message}. {error.remedy or ''}".strip())
    standing = Standing(tuple(systems), series, unprocessed, comparison, None, tuple(notes))
    return replace(standing, metric=_ranking(standing, metric))


def _ranking(standing: Standing, wanted: str | None) -> MetricInfo | None:
    metrics = {metric.name: metric for metric in standing.metrics}
    if wanted is None or not metrics:
        return next(iter(metrics.values()), None)
    if wanted not in metrics:
        note = did_you_mean(nearest(wanted, metrics))
        raise RunError(
            f"no system has the metric `{wanted}`{f': {note}' if note else ''}",
            remedy=f"choose from {', '.join(metrics)}",
        )
    return metrics[wanted]


def _unprocessed(systems: Sequence[LoadedSystem], taken: set[str]) -> LoadedSystem | None:
    """Returns the unprocessed files of the first test that has scored them; None if there are none."""
    for system in systems:
        if system.unprocessed is None:
            continue
        state = system.unprocessed.sources.get("state", "noisy")
        if state in taken:
            return None
        files = tuple(replace(file, id=audio_id(file.id)) for file in system.unprocessed.files)
        scores = replace(system.unprocessed, files=files)
        scored = ScoredSystem(state, (scores,), system.scored.sources[:1], (system.references.get(state, {}),))
        return LoadedSystem(scored, (), None, (), (), system.references)
    return None


def _conditions(system: LoadedSystem) -> tuple[str, ...]:
    """Returns the conditions in the scores of a system by which its files can be grouped."""
    scores = system.scored.runs[0]
    counts = {name: len(scores.groups(name)) for name in scores.conditions}
    return tuple(name for name, count in counts.items() if 1 < count <= _MOST_LEVELS and count < len(scores.files))


def files_text(standing: Standing) -> str:
    """Returns the number of scored files as text, such as `20 files` or `20 files or 30 files`."""
    if standing.comparison:
        return plural(len(standing.comparison.ids), "file")
    counts = {len(system.scored.ids) for system in standing.systems}
    return " or ".join(plural(count, "file") for count in sorted(counts))
