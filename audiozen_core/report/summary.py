"""Writes the summary of a report: which system is better, by how much, how certain this is, and where it fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiozen_core.diagnostics.listed import plural
from audiozen_core.report.chosen_files import FileOrder
from audiozen_core.report.run_facts import RunFacts
from audiozen_core.report.score_tables import MetricTable, ScoreCell, decimals_of
from audiozen_core.report.standing import Standing, files_text
from audiozen_core.report.subjects import Subject
from audiozen_core.report.words import headline, join_words, size_words
from audiozen_core.results.compared import ComparedScores
from audiozen_core.results.comparison_notes import ONE_RUN_EACH, too_few
from audiozen_core.results.paired import PairedDifference
from audiozen_core.results.records import MetricInfo

MOST_METRICS = 5
"""The maximum number of metrics in the table of the summary. The score tables have all metrics."""


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """A row of the summary table: a system and its scores.

    Attributes:
        name: the name of the system.
        series: the index of the system's colour; -1 for the unprocessed files.
        facts: the checkpoint, training time and number of parameters, if they are known.
        scores: the score in each metric, in column order; None for a missing score.
        missing: why the system has no scores; "" if it has scores.
    """

    name: str
    series: int
    facts: tuple[str, ...]
    scores: tuple[ScoreCell | None, ...]
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Failing:
    """A text about where a system fails. The page links the ID of the worst file.

    Attributes:
        text: the text before the ID.
        file: the ID of the worst file; "" if no file is worse.
        after: the text after the ID.
    """

    text: str
    file: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True)
class ReportSummary:
    """The summary at the top of a report.

    Attributes:
        verdicts: sentences that compare each system with the first system. The most important sentence comes first.
        failing: for each system, where it fails.
        columns: the metrics of the summary table.
        rows: the rows of the summary table.
        files: the number of scored files, as text.
        base: the system that all other systems are compared with; "" if nothing is compared.
        cautions: sentences about the limits of the verdicts.
    """

    verdicts: tuple[str, ...]
    failing: tuple[Failing, ...]
    columns: tuple[MetricInfo, ...]
    rows: tuple[SummaryRow, ...]
    files: str
    base: str
    cautions: tuple[str, ...]


def summarise(
    standing: Standing,
    tables: Sequence[MetricTable],
    orders: Sequence[FileOrder],
    facts: Sequence[RunFacts],
    subjects: Sequence[Subject],
) -> ReportSummary:
    """Writes the summary of a report."""
    comparison = standing.comparison
    chosen = tables[:MOST_METRICS]
    return ReportSummary(
        tuple(_verdicts(standing, tables)),
        tuple(_failing(standing, orders)),
        tuple(table.metric for table in chosen),
        tuple(_rows(standing, chosen, facts, subjects)),
        files_text(standing) if standing.systems else "",
        comparison.baseline.name if comparison else "",
        tuple(_cautions(standing)),
    )


def _cautions(standing: Standing) -> Iterator[str]:
    """Yields the notes that limit the verdicts. The page lists all notes further down."""
    comparison = standing.comparison
    if comparison is None:
        return
    more = {system.name: len(system.ids) - len(comparison.ids) for system in comparison.systems}
    if any(more.values()):
        counts = join_words([f"{name} has {count:,} more" for name, count in more.items() if count])
        files = plural(len(comparison.ids), "file")
        yield f"All means are over the {files} that all systems share: {counts}."
    decisive = (ONE_RUN_EACH, too_few(comparison.differences))
    for note in comparison.notes:
        if note in decisive or note.startswith("warning: "):
            text = note.removeprefix("warning: ")
            yield f"{text[0].upper()}{text[1:]}."


def _verdicts(standing: Standing, tables: Sequence[MetricTable]) -> Iterator[str]:
    comparison = standing.comparison
    if comparison is None:
        if len(standing.systems) > 1:
            yield "The scores of these systems are not compared; the notes below the tables give the reasons."
        elif standing.systems:
            yield f"Only {standing.systems[0].scored.name} has scores, so there is nothing to compare it with."
        return
    order = [table.metric for table in tables if table.metric in comparison.metrics]
    if len(comparison.systems) > 2 and order:
        yield _best(standing, order[0])
    for system in comparison.systems[1:]:
        rows = [
            (difference, metric, decimals_of(standing, metric))
            for metric in order
            for difference in comparison.differences
            if (difference.metric, difference.system) == (metric.name, system.name) and difference.files
        ]
        if rows:
            yield headline(system.name, comparison.baseline.name, rows)


def _best(standing: Standing, metric: MetricInfo) -> str:
    """Says which system has the best mean in the metric that ranks the files, and whether the difference is certain."""
    comparison = standing.comparison
    assert comparison is not None
    differences = {
        difference.system: difference
        for difference in comparison.differences
        if difference.metric == metric.name and difference.files
    }
    label, base = metric.label or metric.name, comparison.baseline.name
    if not differences:
        return f"No file has a value of {label} in all systems."
    best = max(differences.values(), key=lambda difference: difference.improvement)
    equal = [name for name, difference in differences.items() if difference.equal == difference.files]
    if best.improvement <= 0 and equal:
        rest = [difference for name, difference in differences.items() if name not in equal]
        certainty = _than_all_others(all(difference.verdict == "worse" for difference in rest)) if rest else ""
        return f"{join_words([base, *equal])} have the best {label}, with the same value for every file{certainty}."
    if best.improvement <= 0:
        certain = all(difference.verdict == "worse" for difference in differences.values())
        return f"{base} has the best {label}{_than_all_others(certain)}."
    size = size_words(best.mean, metric, decimals_of(standing, metric))
    return f"{best.system} has the best {label}: {size} better than {base}{_certainty(best)}."


def _than_all_others(certain: bool) -> str:
    return ", certainly better than all other systems" if certain else ", but not certainly better than all others"


def _certainty(difference: PairedDifference) -> str:
    return ", which is certain" if difference.verdict else ", which is not certain"


def _failing(standing: Standing, orders: Sequence[FileOrder]) -> Iterator[Failing]:
    comparison = standing.comparison
    for order in orders:
        if not order.base or comparison is None or not (order.better or order.worse):
            continue
        label, decimals = order.metric.label or order.metric.name, decimals_of(standing, order.metric)
        parts = [
            f"{order.system} is worse than {order.base} in {label} on {order.worse or 'none'} of "
            f"{plural(len(order.rows), 'file')}"
        ]
        parts += _worst_levels(comparison, order, decimals)
        worst = order.rows[0]
        if worst.improvement < 0:
            size = size_words(worst.improvement, order.metric, decimals)
            yield Failing("; ".join(parts) + ". Its worst file is", worst.id, f", worse by {size}.")
        else:
            yield Failing("; ".join(parts) + ".")


def _worst_levels(comparison: ComparedScores, order: FileOrder, decimals: int) -> Iterator[str]:
    """Yields, for each condition, the value for which a system is worst compared with the first system."""
    for condition, levels in comparison.by.items():
        difference_of_level = {
            level: difference
            for level, differences in levels.items()
            for difference in differences
            if (difference.metric, difference.system) == (order.metric.name, order.system) and difference.files
        }
        if len(difference_of_level) < 2:
            continue
        worst = min(difference_of_level, key=lambda level: difference_of_level[level].improvement)
        difference = difference_of_level[worst]
        if difference.equal == difference.files:  # the system is not worse for any value
            continue
        size = size_words(difference.mean, order.metric, decimals)
        certainty = "certain" if difference.verdict else "not certain"
        result = "its smallest gain" if difference.improvement > 0 else "its worst result"
        word = "better" if difference.improvement > 0 else "worse"
        yield f"{result} is for {condition} {worst or 'unknown'}: {word} by {size} ({certainty})"


def _rows(
    standing: Standing, tables: Sequence[MetricTable], facts: Sequence[RunFacts], subjects: Sequence[Subject]
) -> Iterator[SummaryRow]:
    series = {score.system: score.series for table in tables for score in table.scores}
    subject_of_name = {subject.name: subject for subject in subjects}
    base = standing.comparison.baseline.name if standing.comparison else ""
    names = [*series, *(name for name in subject_of_name if name not in series)]
    for name in names:
        subject = subject_of_name.get(name)
        scores = [next((score for score in table.scores if score.system == name), None) for table in tables]
        yield SummaryRow(
            name,
            series.get(name, subject.series if subject else -1),
            tuple(_facts_of(name, base, subject, [run_facts for run_facts in facts if run_facts.run.system == name])),
            tuple(scores),
            subject.missing if subject and name not in series else "",
        )


def _facts_of(name: str, base: str, subject: Subject | None, facts: Sequence[RunFacts]) -> Iterator[str]:
    if subject is None:
        yield "the unprocessed files"
        return
    if name == base:
        yield "the other systems are compared with this one"
    if subject.loaded:
        checkpoints = dict.fromkeys(filter(None, map(_checkpoint, subject.loaded.scored.sources)))
        if checkpoints:
            yield f"checkpoint {', '.join(checkpoints)}"
    if len(facts) > 1:
        yield plural(len(facts), "seed")
    if facts:
        if facts[0].parameters:
            yield f"{facts[0].parameters} parameters"
        times = dict.fromkeys(run_facts.training_time for run_facts in facts)
        yield f"training time {', '.join(times)}"
        if any(run_facts.is_running for run_facts in facts):
            yield "still running"


def _checkpoint(source: str) -> str:
    """Returns the checkpoint that a test used, such as `best_epoch_0012`; "" for scores that are not from a test."""
    parts = Path(source.partition(",")[0]).parts
    return parts[parts.index("test") + 1] if "test" in parts[:-1] else ""
