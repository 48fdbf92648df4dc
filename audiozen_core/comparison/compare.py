"""Compares the scores of runs, folders and CSV files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from audiozen_core.comparison.configs import compare_settings
from audiozen_core.comparison.load_systems import LoadedSystem, load_systems, other_inputs
from audiozen_core.comparison.system_specs import parse_systems
from audiozen_core.diagnostics.listed import listed
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.errors import RunError
from audiozen_core.results.compare_systems import compare_systems
from audiozen_core.results.comparison import Comparison
from audiozen_core.results.id_table import read_id_table
from audiozen_core.scoring.conditions import canonical_number, conditions_of


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

    A system is a run (its latest finished test is used), the result folder of a test, a folder that `audiozen evaluate
    -o` has written, or a CSV file with one row for each file. A system can also consist of several runs, folders or CSV
    files, one for each training seed. docs/compare.md explains the statistics.

    Args:
        systems: the systems, in the order of the table. A list has texts as on the command line: a path; `NAME=PATH`;
            `PATH,PATH` or a pattern such as `exp/a_seed_*` for several seeds; `exp/a` for the seeds of `audiozen run
            --seeds`; `PATH:noisy` for the scores of the noisy files of a test. A dict maps the name of a system to one
            or more of such texts.
        baseline: the name or the text of the system that all other systems are compared with; None for the first
            system.
        metrics: the names of the metrics to compare; None for all metrics that the baseline and another system have.
        lower_is_better: the metrics for which a lower number is better, if the scores do not record the direction.
        by: the conditions by which the files are grouped, as in `evaluate`.
        conditions: a CSV, TSV or JSONL file with the conditions of the files.
        checkpoint: for runs, the checkpoint whose test is used, such as `best` or `epoch_0012`; None for the latest
            test of any checkpoint.

    Raises:
        RunError: fewer than two systems are named, a run has no finished test, or a name is unknown.
        DataError: scores can't be read or can't be compared, for example because the systems have no file in common.

    Example:
        >>> comparison = compare({"old": "exp/old", "new": ["exp/new_seed_0", "exp/new_seed_1"]})  # doctest: +SKIP
        >>> comparison.difference("pesq", "new").p_holm  # doctest: +SKIP
    """
    named = parse_systems(systems)
    if len(named) < 2:
        raise RunError("a comparison needs at least two systems", remedy="give two runs, folders or CSV files")
    found = load_systems(named, checkpoint=checkpoint or "", by=by)
    if baseline is not None:
        names = [system.scored.name for system in found]
        texts = [system.text for system in named]
        index = next((labels.index(baseline) for labels in (names, texts) if baseline in labels), None)
        if index is None:
            note = did_you_mean(nearest(baseline, names))
            raise RunError(
                f"no system is called `{baseline}`{f': {note}' if note else ''}",
                remedy=f"choose the baseline from {', '.join(names)}",
            )
        found.insert(0, found.pop(index))
    return compare_loaded(found, metrics=metrics, lower_is_better=lower_is_better, by=by, conditions=conditions)


def compare_loaded(
    found: Sequence[LoadedSystem],
    *,
    metrics: Sequence[str] | None = None,
    lower_is_better: Sequence[str] = (),
    by: Sequence[str] = (),
    conditions: str | Path | None = None,
) -> Comparison:
    """Compares the first system with each of the others. `compare` explains the arguments.

    Raises:
        DataError: the scores can't be compared, for example because the systems have no file in common.
        RunError: a metric or a condition is unknown.
    """
    settings, setting_notes = compare_settings({system.scored.name: system.configs for system in found})
    condition_values, condition_notes = _conditions(found, by, conditions)
    system_notes = [note for system in found for note in system.notes]
    notes = [*system_notes, *other_inputs(found), *setting_notes, *condition_notes]
    return compare_systems(
        [system.scored for system in found],
        metrics=metrics,
        lower_is_better=lower_is_better,
        conditions=condition_values,
        notes=notes,
        settings=settings,
    )


def _conditions(
    systems: Sequence[LoadedSystem], by: Sequence[str], file: str | Path | None
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Returns the values of each condition by ID, and notes. The values come from the file, the scores or the IDs."""
    table = read_id_table(file) if file is not None else None
    found: dict[str, dict[str, str]] = {}
    notes: list[str] = []
    scores = [(system.scored.name, run) for system in systems for run in system.scored.runs]
    for name in dict.fromkeys(by):
        with_condition = [(system_name, run) for system_name, run in scores if name in run.conditions]
        if with_condition and (table is None or name not in table.columns):
            values: dict[str, str] = {}
            different: dict[str, str] = {}
            for system_name, run in with_condition:
                for file_scores in run.files:
                    value = canonical_number(file_scores.conditions.get(name, ""))
                    if value and values.setdefault(file_scores.id, value) != value:
                        different[file_scores.id] = system_name
            if different:
                others = listed(dict.fromkeys(different.values()))
                notes.append(
                    f"warning: {len(different)} files have a different `{name}` in {others} than in "
                    f"{with_condition[0][0]}, whose values are used: {listed(different)}"
                )
            found[name] = values
        else:
            ids = systems[0].scored.ids
            by_id, findings = conditions_of([name], ids, table)
            found[name] = {key: conditions[name] for key, conditions in by_id.items()}
            notes += findings
    return found, notes
