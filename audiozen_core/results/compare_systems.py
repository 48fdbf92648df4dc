"""Compares the scores of several systems with the scores of the first system, file by file."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from audiozen_core.diagnostics.listed import listed
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.errors import DataError, RunError
from audiozen_core.results.compared import SettingRow
from audiozen_core.results.comparison import Comparison
from audiozen_core.results.comparison_notes import (
    notes_on_differences,
    notes_on_files,
    notes_on_listeners,
    notes_on_metrics,
    notes_on_seeds,
)
from audiozen_core.results.files import read_number
from audiozen_core.results.paired import PairedDifference, corrected, paired_difference
from audiozen_core.results.rated import rated_difference
from audiozen_core.results.records import MetricInfo
from audiozen_core.results.scores import sort_condition_values
from audiozen_core.results.systems import ScoredSystem, complete_files, known_metric


def compare_systems(
    systems: Sequence[ScoredSystem],
    *,
    metrics: Sequence[str] | None = None,
    lower_is_better: Collection[str] = (),
    conditions: Mapping[str, Mapping[str, str]] | None = None,
    notes: Sequence[str] = (),
    settings: Sequence[SettingRow] = (),
    listeners: Sequence[str] = (),
) -> Comparison:
    """Compares systems with the first system, the baseline, over the files that all systems have.

    Args:
        systems: at least two systems with distinct names.
        metrics: the metrics to compare; None for every metric that the baseline and at least one other system have.
        lower_is_better: the metrics for which lower values are better, in case the scores don't give the direction.
        conditions: for each condition, the value of each file.
        notes: notes from the caller. They come first in the notes of the comparison.
        settings: the settings in which the configurations of the runs differ.
        listeners: the names of the listeners of a listening test.

    Raises:
        DataError: the systems have no file or no metric in common, or the values of a metric can't be compared.
        RunError: no system has a metric that was named.
    """
    ids = _common_files(systems)
    chosen, metric_notes = _metrics(systems, metrics, lower_is_better)
    conditions = conditions or {}
    names = [metric.name for metric in chosen]
    all_notes = [*notes, *notes_on_files(systems, ids), *metric_notes, *notes_on_metrics(systems, names)]
    differences = corrected(_differences(systems, chosen, ids))
    by: dict[str, dict[str, tuple[PairedDifference, ...]]] = {}
    for condition, value_of_file in conditions.items():
        files_by_value: dict[str, list[str]] = {}
        for file in ids:
            files_by_value.setdefault(value_of_file.get(file, ""), []).append(file)
        values = sort_condition_values(files_by_value)
        # All differences of a condition are corrected together. Afterwards, they are split by the values of the
        # condition.
        uncorrected = [
            (value, difference)
            for value in values
            for difference in _differences(systems, chosen, files_by_value[value])
        ]
        pairs = list(
            zip(
                [value for value, _ in uncorrected],
                corrected([difference for _, difference in uncorrected]),
                strict=True,
            )
        )
        by[condition] = {
            value: tuple(difference for pair_value, difference in pairs if pair_value == value) for value in values
        }
    missing = {
        name: {
            system.name: {
                file: system.reason(name, file)
                for file, value in zip(ids, system.values(name, ids).mean(axis=0), strict=True)
                if math.isnan(value)
            }
            for system in systems
            if name in system.metrics
        }
        for name in names
    }
    all_notes += notes_on_differences(systems, chosen, differences, missing, len(ids))
    all_notes += notes_on_listeners(differences, listeners) if listeners else notes_on_seeds(systems, differences)
    return Comparison(
        tuple(systems),
        chosen,
        tuple(ids),
        differences,
        by,
        conditions,
        tuple(all_notes),
        tuple(settings),
        tuple(listeners),
    )


def _differences(
    systems: Sequence[ScoredSystem], metrics: Sequence[MetricInfo], ids: Sequence[str]
) -> list[PairedDifference]:
    differences = []
    for metric in metrics:
        complete = complete_files(metric.name, systems, ids)
        differences += [
            _difference(metric, systems[0], system, complete) for system in systems[1:] if metric.name in system.metrics
        ]
    return differences


def _difference(
    metric: MetricInfo, baseline: ScoredSystem, system: ScoredSystem, ids: Sequence[str]
) -> PairedDifference:
    name, higher_is_better = metric.name, metric.higher_is_better
    if system.ratings:
        tested = not (system.is_control or baseline.is_control)
        before, after = baseline.rated(name, ids), system.rated(name, ids)
        return rated_difference(name, system.name, before, after, higher_is_better=higher_is_better, tested=tested)
    before, after = baseline.values(name, ids), system.values(name, ids)
    return paired_difference(name, system.name, before, after, higher_is_better=higher_is_better)


def _common_files(systems: Sequence[ScoredSystem]) -> list[str]:
    for system in systems:
        if not system.ids:
            raise DataError(
                f"the runs of `{system.name}` have no file in common, so they used different test sets",
                remedy="only group runs that used the same test set",
            )
    shared = set(systems[0].ids).intersection(*(system.ids for system in systems[1:]))
    if not shared:
        first = systems[0]
        other = (
            next(system for system in systems if not set(system.ids) & set(first.ids)) if len(systems) == 2 else None
        )
        others = [other] if other else systems[1:]
        raise DataError(
            "the systems have no file in common, so they can't be compared file by file",
            notes=[f"IDs of {system.name}: {listed(system.ids, most=3)}" for system in (first, *others)],
            remedy="compare results on the same test set, with the same IDs for the same files",
        )
    return [name for name in systems[0].ids if name in shared]


def _metrics(
    systems: Sequence[ScoredSystem], wanted: Sequence[str] | None, lower_is_better: Collection[str]
) -> tuple[tuple[MetricInfo, ...], list[str]]:
    """Returns the metrics to compare, and notes on metrics that are left out, incomplete or without a direction."""
    names = list(dict.fromkeys(name for system in systems for name in system.metrics))
    for name in (*(wanted or ()), *lower_is_better):
        if name not in names:
            note = did_you_mean(nearest(name, names))
            raise RunError(
                f"no system has the metric `{name}`{f': {note}' if note else ''}",
                remedy=f"choose from {', '.join(names) or 'none'}",
            )
    for name in names:
        _check_numbers(name, systems)
    chosen, notes = [], []
    without_direction = []
    constant = [] if wanted else _constant(names, systems)
    if constant:
        notes.append(
            f"{', '.join(constant)}: the values are the same in all systems, so these columns are treated as "
            "conditions, not as metrics; `--by NAME` groups the files by a condition"
        )
    for name in dict.fromkeys(wanted or names):
        if name in constant:
            continue
        having = [system for system in systems if name in system.metrics]
        lacking = listed([system.name for system in systems if system not in having])
        if systems[0] not in having or len(having) < 2:
            notes.append(f"{name} is not compared, because it has no values in {lacking}")
            continue
        if lacking:
            notes.append(f"{name}: no values in {lacking}")
        metric, has_direction = known_metric(name, having, name in lower_is_better)
        chosen.append(metric)
        if not has_direction:
            without_direction.append(name)
    if without_direction:
        notes.append(
            f"{', '.join(without_direction)}: the scores don't say whether higher or lower is better; higher is "
            "assumed, and `--lower-is-better NAME` changes that"
        )
    if not chosen:
        raise DataError(
            f"`{systems[0].name}` has no metric in common with another system",
            notes=[f"metrics of {system.name}: {', '.join(system.metrics) or 'none'}" for system in systems],
            remedy="compute the same metrics for all systems, for example with `audiozen evaluate`",
        )
    return tuple(chosen), notes


def _check_numbers(name: str, systems: Sequence[ScoredSystem]) -> None:
    """Raises an error if a metric of one system is a text column in another system, because of a non-numeric cell."""
    for system in systems:
        for run in system.runs:
            if name in run.conditions and (
                wrong := [file for file in run.files if read_number(file.conditions.get(name, "")) is None]
            ):
                raise DataError(
                    f"`{run.sources.get('scores', system.name)}` has `{wrong[0].conditions[name]}` as {name} of "
                    f"`{wrong[0].id}`, which is not a number",
                    remedy="leave the cell empty if the file has no value, or rename the column if it is a different "
                    "metric",
                )


def _constant(names: Sequence[str], systems: Sequence[ScoredSystem]) -> list[str]:
    """Returns the columns whose values are the same in all systems, such as the SNR of a file.

    A metric that AudioZEN computed in any system is never returned. If all columns are the same, the scores are
    identical, and the list is empty.
    """
    ids = _common_files(systems)
    constant = []
    for name in names:
        is_metric = any(
            metric.identity for system in systems for metric in system.runs[0].metrics if metric.name == name
        )
        if is_metric or not all(name in system.metrics for system in systems):
            continue
        rows = [row for system in systems for row in system.values(name, ids)]
        if all(np.array_equal(row, rows[0], equal_nan=True) for row in rows):
            constant.append(name)
    return constant if len(constant) < len(names) else []
