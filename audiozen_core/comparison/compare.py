"""Compares the scores of runs, folders and CSV files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from audiozen_core.comparison.configs import compare_settings
from audiozen_core.comparison.found import FoundSystem, find_systems, other_inputs
from audiozen_core.comparison.named import parse_systems
from audiozen_core.diagnostics.listed import listed
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.errors import RunError
from audiozen_core.results.compare_systems import compare_systems
from audiozen_core.results.comparison import Comparison
from audiozen_core.results.id_table import read_id_table
from audiozen_core.scoring.conditions import canonical, conditions_of


def compare(
    systems: Sequence[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str] | Sequence[str | os.PathLike[str]]],
    *,
    baseline: str | None = None,
    metrics: Sequence[str] | None = None,
    lower_is_better: Sequence[str] = (),
    by: Sequence[str] = (),
    conditions: str | Path | None = None,
    checkpoint: str | None = None,
) -> Comparison:
    """Compares systems with a baseline, file by file: differences with 95 % intervals and permutation tests.

    A system is a run, of which the latest finished test is taken; the result folder of a test; a folder that `audiozen
    evaluate -o` has written; a CSV file with one row for each file; or several of these that differ in the seeds of
    their trainings. docs/compare.md explains the statistics.

    Args:
        systems: the systems, in the order of the table. As a list, of texts as on the command line: a path;
            `NAME=PATH`; `PATH,PATH` or a pattern such as `exp/a_seed_*` for several seeds; `exp/a` for the seeds of
            `audiozen run --seeds`; `PATH:noisy` for the scores of the noisy files of a test. As a dict, from
            the name of a system to one or more of these.
        baseline: the name or the text of the system that the others are compared with; None for the first one.
        metrics: the names of the metrics to compare; None for all that the baseline and another system have.
        lower_is_better: the metrics for which a lower number is better, where the scores do not say it.
        by: the conditions by which the files are grouped, as in `evaluate`.
        conditions: a CSV, TSV or JSONL file with the conditions of the files.
        checkpoint: of runs, the checkpoint whose test is taken, such as `best` or `epoch_0012`; None for the latest
            test of any checkpoint.

    Raises:
        RunError: fewer than two systems are named, a run has no finished test, or a name is not known.
        DataError: scores can't be read or can't be compared, for example because the systems have no file in common.

    Example:
        >>> comparison = compare({"old": "exp/old", "new": ["exp/new_seed_0", "exp/new_seed_1"]})  # doctest: +SKIP
        >>> comparison.difference("pesq", "new").p_holm  # doctest: +SKIP
    """
    named = parse_systems(systems)
    if len(named) < 2:
        raise RunError("a comparison needs at least two systems", remedy="name two runs, folders or CSV files")
    found = find_systems(named, checkpoint=checkpoint or "", by=by)
    if baseline is not None:
        names = [system.scored.name for system in found]
        texts = [system.text for system in named]
        place = next((of.index(baseline) for of in (names, texts) if baseline in of), None)
        if place is None:
            note = did_you_mean(nearest(baseline, names))
            raise RunError(
                f"no system is called `{baseline}`{f': {note}' if note else ''}",
                remedy=f"choose the baseline from {', '.join(names)}",
            )
        found.insert(0, found.pop(place))
    return compare_found(found, metrics=metrics, lower_is_better=lower_is_better, by=by, conditions=conditions)


def compare_found(
    found: Sequence[FoundSystem],
    *,
    metrics: Sequence[str] | None = None,
    lower_is_better: Sequence[str] = (),
    by: Sequence[str] = (),
    conditions: str | Path | None = None,
) -> Comparison:
    """Compares systems whose scores have been found. The first one is the baseline, and the rest is as in `compare`.

    Raises:
        DataError: the scores can't be compared, for example because the systems have no file in common.
        RunError: a metric or a condition is not known.
    """
    settings, told = compare_settings({system.scored.name: system.configs for system in found})
    of_files, findings = _conditions(found, by, conditions)
    notes = [*(note for system in found for note in system.notes), *other_inputs(found), *told, *findings]
    return compare_systems(
        [system.scored for system in found],
        metrics=metrics,
        lower_is_better=lower_is_better,
        conditions=of_files,
        notes=notes,
        settings=settings,
    )


def _conditions(
    systems: Sequence[FoundSystem], by: Sequence[str], file: str | Path | None
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Returns the values of each condition by ID: from the file, else from the scores, else from the IDs."""
    table = read_id_table(file) if file is not None else None
    found: dict[str, dict[str, str]] = {}
    notes: list[str] = []
    scores = [(system.scored.name, run) for system in systems for run in system.scored.runs]
    for name in dict.fromkeys(by):
        having = [(own, run) for own, run in scores if name in run.conditions]
        if having and (table is None or name not in table.columns):
            values: dict[str, str] = {}
            other: dict[str, str] = {}
            for own, run in having:
                for each in run.files:
                    value = canonical(each.conditions.get(name, ""))
                    if value and values.setdefault(each.id, value) != value:
                        other[each.id] = own
            if other:
                notes.append(
                    f"warning: {len(other)} files have another `{name}` in {listed(dict.fromkeys(other.values()))} "
                    f"than in {having[0][0]}, whose values are used: {listed(other)}"
                )
            found[name] = values
        else:
            ids = systems[0].scored.ids
            of_ids, told = conditions_of([name], ids, table)
            found[name] = {key: of[name] for key, of in of_ids.items()}
            notes += told
    return found, notes
