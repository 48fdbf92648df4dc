"""What a report says first: which system is better, by how much, is that certain, and where it fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiozen_core.report.chosen_files import FileOrder
from audiozen_core.report.run_facts import RunFacts
from audiozen_core.report.score_tables import MetricTable, Score, decimals_of
from audiozen_core.report.standing import Standing, files_text
from audiozen_core.report.subjects import Subject
from audiozen_core.report.words import headline, joined, plural, size_words
from audiozen_core.results.compared import ComparedScores
from audiozen_core.results.comparison_notes import ONE_RUN_EACH, too_few
from audiozen_core.results.paired import PairedDifference
from audiozen_core.results.records import MetricInfo

MOST_METRICS = 5
"""How many metrics the table of the summary has; the others are in the tables of scores."""


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """A row of the summary: a system, and its scores in the order of the columns.

    Attributes:
        name: the name of the system.
        series: the number of its colour; -1 for the unprocessed files.
        facts: its checkpoint, training time and parameters, as far as they are known.
        scores: its score in each metric of the table; None where there is none.
        missing: why it has no scores; "" if it has some.
    """

    name: str
    series: int
    facts: tuple[str, ...]
    scores: tuple[Score | None, ...]
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Failing:
    """Where a system fails, in one sentence, and the ID of the worst file.

    Attributes:
        text: the sentence.
        file: the ID of the worst file; "" if there is none.
        after: what follows the name of the file.
    """

    text: str
    file: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a report says first.

    Attributes:
        verdicts: for each system, how it compares with the first one; the first text is the shortest answer.
        failing: for each system, where it fails.
        columns: the metrics of the table.
        rows: its rows.
        files: how many files the scores are of, in words.
        base: the system that the others are compared with; "" if nothing is compared.
        cautions: what one must know before one believes the verdicts, in sentences.
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
) -> Summary:
    """Says what a report says first."""
    comparison = standing.comparison
    chosen = tables[:MOST_METRICS]
    return Summary(
        tuple(_verdicts(standing, tables)),
        tuple(_failing(standing, orders)),
        tuple(table.metric for table in chosen),
        tuple(_rows(standing, chosen, facts, subjects)),
        files_text(standing) if standing.systems else "",
        comparison.baseline.name if comparison else "",
        tuple(_cautions(standing)),
    )


def _cautions(standing: Standing) -> Iterator[str]:
    """Yields what limits the verdicts; all notes are below the tables, where few people look."""
    comparison = standing.comparison
    if comparison is None:
        return
    more = {system.name: len(system.ids) - len(comparison.ids) for system in comparison.systems}
    if any(more.values()):
        counts = joined([f"{name} has {count:,} more" for name, count in more.items() if count])
        files = plural(len(comparison.ids), "file")
        yield f"All means are over the {files} that all systems have: {counts}."
    decisive = (ONE_RUN_EACH, too_few(comparison.differences))
    for note in comparison.notes:
        if note in decisive or note.startswith("warning: "):
            text = note.removeprefix("warning: ")
            yield f"{text[0].upper()}{text[1:]}."


def _verdicts(standing: Standing, tables: Sequence[MetricTable]) -> Iterator[str]:
    comparison = standing.comparison
    if comparison is None:
        if len(standing.systems) > 1:
            yield "The scores of these systems are not compared: the notes below the tables say why."
        elif standing.systems:
            yield f"These are the scores of {standing.systems[0].scored.name} alone: nothing else has scores here."
        return
    order = [table.metric for table in tables if table.metric in comparison.metrics]
    if len(comparison.systems) > 2 and order:
        yield _best(standing, order[0])
    for system in comparison.systems[1:]:
        rows = [
            (one, metric, decimals_of(standing, metric))
            for metric in order
            for one in comparison.differences
            if (one.metric, one.system) == (metric.name, system.name) and one.files
        ]
        if rows:
            yield headline(system.name, comparison.baseline.name, rows)


def _best(standing: Standing, metric: MetricInfo) -> str:
    """Says which system has the best mean in the metric that ranks the files, and whether that is certain."""
    comparison = standing.comparison
    assert comparison is not None
    differences = {one.system: one for one in comparison.differences if one.metric == metric.name and one.files}
    if not differences:
        return f"No file has a {metric.label or metric.name} in all systems."
    best = max(differences.values(), key=lambda one: one.improvement)
    label, base = metric.label or metric.name, comparison.baseline.name
    equal = [name for name, one in differences.items() if one.equal == one.files]
    if best.improvement <= 0 and equal:
        rest = [one for name, one in differences.items() if name not in equal]
        sure = _sure(all(one.verdict == "worse" for one in rest), "than that of every other system") if rest else ""
        return f"{joined([base, *equal])} have the best {label}, the same for every file{sure}."
    if best.improvement <= 0:
        certain = all(one.verdict == "worse" for one in differences.values())
        return f"{base} has the best {label}{_sure(certain, 'than that of every other system')}."
    size = size_words(best.mean, metric, decimals_of(standing, metric))
    return f"{best.system} has the best {label}: {size} better than {base}{_certain(best)}."


def _sure(certain: bool, than: str) -> str:
    return f", certainly better {than}" if certain else ", but not certainly better than all others"


def _certain(one: PairedDifference) -> str:
    return ", which is certain" if one.verdict else ", which is not certain"


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
    """Says for each condition for which of its values a system is worst, compared with the first one."""
    for condition, levels in comparison.by.items():
        found = {
            level: one
            for level, differences in levels.items()
            for one in differences
            if (one.metric, one.system) == (order.metric.name, order.system) and one.files
        }
        if len(found) < 2:
            continue
        level = min(found, key=lambda each: found[each].improvement)
        one = found[level]
        if one.equal == one.files:  # for every level, or nothing is worse and some are better
            continue
        how = "gains least, it is better" if one.improvement > 0 else "does worst, it is worse"
        size = size_words(one.mean, order.metric, decimals)
        certain = "certain" if one.verdict else "not certain"
        yield f"for {condition} {level or 'unknown'}, where it {how} by {size} ({certain})"


def _rows(
    standing: Standing, tables: Sequence[MetricTable], facts: Sequence[RunFacts], subjects: Sequence[Subject]
) -> Iterator[SummaryRow]:
    scored = {score.system: score.series for table in tables for score in table.scores}
    of_subject = {subject.name: subject for subject in subjects}
    base = standing.comparison.baseline.name if standing.comparison else ""
    names = [*scored, *(name for name in of_subject if name not in scored)]
    for name in names:
        subject = of_subject.get(name)
        scores = [next((one for one in table.scores if one.system == name), None) for table in tables]
        yield SummaryRow(
            name,
            scored.get(name, subject.series if subject else -1),
            tuple(_facts_of(name, base, subject, [one for one in facts if one.run.system == name])),
            tuple(scores),
            subject.missing if subject and name not in scored else "",
        )


def _facts_of(name: str, base: str, subject: Subject | None, facts: Sequence[RunFacts]) -> Iterator[str]:
    if subject is None:
        yield "the files as they were given"
        return
    if name == base:
        yield "the others are compared with it"
    if subject.found:
        checkpoints = dict.fromkeys(filter(None, map(_checkpoint, subject.found.scored.sources)))
        if checkpoints:
            yield f"checkpoint {', '.join(checkpoints)}"
    if len(facts) > 1:
        yield plural(len(facts), "seed")
    if facts:
        if facts[0].parameters:
            yield f"{facts[0].parameters} parameters"
        times = dict.fromkeys(one.training_time for one in facts)
        yield f"training time {', '.join(times)}"
        if any(one.is_running for one in facts):
            yield "still being trained"


def _checkpoint(source: str) -> str:
    """Returns the checkpoint of the results of a test, such as `best_epoch_0012`; "" for other results."""
    parts = Path(source.partition(",")[0]).parts
    return parts[parts.index("test") + 1] if "test" in parts[:-1] else ""
