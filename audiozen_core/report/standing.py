"""Which systems of a report can be compared, and with what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from audiozen_core.comparison.compare import compare_found
from audiozen_core.comparison.found import FoundSystem
from audiozen_core.diagnostics.listed import listed
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.errors import DataError, RunError
from audiozen_core.report.subjects import Subject
from audiozen_core.report.words import plural
from audiozen_core.results.comparison import Comparison
from audiozen_core.results.id_table import audio_id
from audiozen_core.results.records import MetricInfo
from audiozen_core.results.systems import ScoredSystem

_MOST_LEVELS = 12  # A condition with more values is a label of files, and its table would be as long as theirs.


@dataclass(frozen=True, slots=True)
class Standing:
    """The scores of a report.

    Attributes:
        systems: all systems with scores, in order. The unprocessed files are the first one if there is only one run.
        series: by name, the number of the system's colour; -1 for the unprocessed files.
        given: the unprocessed files, if a test has scored them.
        comparison: the comparison of the systems with the first one; None if nothing can be compared.
        metric: the metric that ranks the files; None without scores.
        notes: what is remarkable, in words.
    """

    systems: tuple[FoundSystem, ...]
    series: dict[str, int]
    given: FoundSystem | None
    comparison: Comparison | None
    metric: MetricInfo | None
    notes: tuple[str, ...]

    @property
    def metrics(self) -> tuple[MetricInfo, ...]:
        """All metrics of all systems, the compared ones first."""
        if self.comparison is None:
            every = [metric for system in self.systems for metric in system.scored.metrics.values()]
            return tuple({metric.name: metric for metric in every}.values())
        first, *others = self.comparison.systems
        # A column that the first system and another one have, and that is not compared, is a condition of the files.
        same = {name for system in others for name in system.metrics if name in first.metrics}
        found = {metric.name: metric for metric in self.comparison.metrics}
        for system in self.systems:
            for name, metric in system.scored.metrics.items():
                if name not in same:
                    found.setdefault(name, metric)
        return tuple(found.values())

    @property
    def compared(self) -> set[str]:
        """The names of the systems that are compared."""
        return {system.name for system in self.comparison.systems} if self.comparison else set()


def compare_subjects(
    subjects: Sequence[Subject],
    *,
    metric: str | None,
    by: Sequence[str],
    lower_is_better: Sequence[str],
    conditions: str | Path | None,
) -> Standing:
    """Compares the systems with the first one as far as that is possible.

    Args:
        subjects: the systems.
        metric: the metric that ranks the files; None for the first one that is compared.
        by: the conditions by which the files are grouped; empty for those that the scores have.
        lower_is_better: the metrics for which a lower number is better, where the scores do not say it.
        conditions: a CSV, TSV or JSONL file with the conditions of the files.

    Raises:
        RunError: the metric or a condition is not known.
    """
    tested = [subject for subject in subjects if subject.found]
    systems = [subject.found for subject in tested if subject.found]
    series = {subject.name: subject.series for subject in tested}
    given = _given(systems, set(series))
    if given:
        series[given.scored.name] = -1
    pairs, notes = systems, []
    if len(systems) == 1 and given:
        pairs = systems = [given, *systems]
    elif len(systems) > 1:
        shared = set(systems[0].scored.ids)
        pairs = [system for system in systems if shared & set(system.scored.ids)]
        apart = [system.scored.name for system in systems if system not in pairs]
        if apart:
            notes.append(
                f"{listed(apart)} was tested with other files than {systems[0].scored.name}, so its scores are not "
                "compared; test both on the same files, in which each file has the same ID"
            )
    comparison = None
    if len(pairs) > 1:
        try:
            comparison = compare_found(
                pairs, by=by or _conditions(pairs[0]), lower_is_better=lower_is_better, conditions=conditions
            )
            notes += comparison.notes
        except DataError as error:
            notes.append(f"the scores are not compared: {error.message}. {error.remedy or ''}".strip())
    found = Standing(tuple(systems), series, given, comparison, None, tuple(notes))
    return replace(found, metric=_ranking(found, metric))


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


def _given(systems: Sequence[FoundSystem], taken: set[str]) -> FoundSystem | None:
    """Returns the unprocessed files of the first test that has scored them."""
    for system in systems:
        if system.given is None:
            continue
        state = system.given.sources.get("state", "noisy")
        if state in taken:
            return None
        files = tuple(replace(file, id=audio_id(file.id)) for file in system.given.files)
        scores = replace(system.given, files=files)
        scored = ScoredSystem(state, (scores,), system.scored.sources[:1], (system.references.get(state, {}),))
        return FoundSystem(scored, (), None, (), (), system.references)
    return None


def _conditions(system: FoundSystem) -> tuple[str, ...]:
    """Returns the conditions that the scores of a system have, without those that have a value for each file."""
    scores = system.scored.runs[0]
    counts = {name: len(scores.groups(name)) for name in scores.conditions}
    return tuple(name for name, count in counts.items() if 1 < count <= _MOST_LEVELS and count < len(scores.files))


def files_text(standing: Standing) -> str:
    """Returns how many files the scores are of."""
    if standing.comparison:
        return plural(len(standing.comparison.ids), "file")
    counts = {len(system.scored.ids) for system in standing.systems}
    return " or ".join(plural(count, "file") for count in sorted(counts))
