"""Compares the scores of several systems with those of the first one, file by file."""

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
from audiozen_core.results.scores import in_order
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
    """Compares systems with the first one, over the files that all of them have.

    Args:
        systems: the systems, at least two, with names of their own.
        metrics: the metrics to compare; None for all that the baseline and another system have.
        lower_is_better: the metrics for which a lower number is better, where the scores do not say it.
        conditions: for each condition, its value for each file.
        notes: what is already known to be remarkable.
        settings: what differs in the configurations of the runs.
        listeners: of a listening test, the names of the listeners.

    Raises:
        DataError: the systems have no file or no metric in common, or values of a metric that can't be compared.
        RunError: a metric is not known.
    """
    ids = _common_files(systems)
    chosen, told = _metrics(systems, metrics, lower_is_better)
    conditions = conditions or {}
    names = [metric.name for metric in chosen]
    all_notes = [*notes, *notes_on_files(systems, ids), *told, *notes_on_metrics(systems, names)]
    differences = corrected(_differences(systems, chosen, ids))
    by: dict[str, dict[str, tuple[PairedDifference, ...]]] = {}
    for condition, of_files in conditions.items():
        levels: dict[str, list[str]] = {}
        for name in ids:
            levels.setdefault(of_files.get(name, ""), []).append(name)
        found = [(level, one) for level in in_order(levels) for one in _differences(systems, chosen, levels[level])]
        fixed = corrected([one for _, one in found])
        by[condition] = {
            level: tuple(new for (own, _), new in zip(found, fixed, strict=True) if own == level)
            for level in in_order(levels)
        }
    missing = {
        name: {
            system.name: {
                one: system.reason(name, one)
                for one, value in zip(ids, system.values(name, ids).mean(axis=0), strict=True)
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
    found = []
    for metric in metrics:
        complete = complete_files(metric.name, systems, ids)
        found += [
            _difference(metric, systems[0], system, complete) for system in systems[1:] if metric.name in system.metrics
        ]
    return found


def _difference(
    metric: MetricInfo, baseline: ScoredSystem, system: ScoredSystem, ids: Sequence[str]
) -> PairedDifference:
    name, upwards = metric.name, metric.higher_is_better
    if system.ratings:
        tested = not (system.is_control or baseline.is_control)
        before, after = baseline.rated(name, ids), system.rated(name, ids)
        return rated_difference(name, system.name, before, after, higher_is_better=upwards, tested=tested)
    before, after = baseline.values(name, ids), system.values(name, ids)
    return paired_difference(name, system.name, before, after, higher_is_better=upwards)


def _common_files(systems: Sequence[ScoredSystem]) -> list[str]:
    for system in systems:
        if not system.ids:
            raise DataError(
                f"the runs of `{system.name}` have no file in common, so they are of different test sets",
                remedy="group runs of one test set only",
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
            remedy="compare results of the same test set, in which each file has the same ID",
        )
    return [name for name in systems[0].ids if name in shared]


def _metrics(
    systems: Sequence[ScoredSystem], wanted: Sequence[str] | None, lower_is_better: Collection[str]
) -> tuple[tuple[MetricInfo, ...], list[str]]:
    """Returns the metrics to compare, and what is remarkable about which systems have them."""
    every = list(dict.fromkeys(name for system in systems for name in system.metrics))
    for name in (*(wanted or ()), *lower_is_better):
        if name not in every:
            note = did_you_mean(nearest(name, every))
            raise RunError(
                f"no system has the metric `{name}`{f': {note}' if note else ''}",
                remedy=f"choose from {', '.join(every) or 'none'}",
            )
    for name in every:
        _check_numbers(name, systems)
    chosen, notes = [], []
    unknown = []
    constant = [] if wanted else _constant(every, systems)
    if constant:
        notes.append(
            f"{', '.join(constant)}: all systems have the same values, so these are taken for conditions and not for "
            "metrics; `--by NAME` groups the files by one"
        )
    for name in dict.fromkeys(wanted or every):
        if name in constant:
            continue
        having = [system for system in systems if name in system.metrics]
        lacking = listed([system.name for system in systems if system not in having])
        if systems[0] not in having or len(having) < 2:
            notes.append(f"{name} is not compared, because it has no values in {lacking}")
            continue
        if lacking:
            notes.append(f"{name}: no values in {lacking}")
        metric, known = known_metric(name, having, name in lower_is_better)
        chosen.append(metric)
        if not known:
            unknown.append(name)
    if unknown:
        notes.append(
            f"{', '.join(unknown)}: the scores do not say in which direction better is, so higher counts as better; "
            "`--lower-is-better NAME` changes that"
        )
    if not chosen:
        raise DataError(
            f"`{systems[0].name}` has no metric in common with another system",
            notes=[f"metrics of {system.name}: {', '.join(system.metrics) or 'none'}" for system in systems],
            remedy="compute the same metrics for all of them, for example with `audiozen evaluate`",
        )
    return tuple(chosen), notes


def _check_numbers(name: str, systems: Sequence[ScoredSystem]) -> None:
    """Refuses a metric of one system that is a column of texts in another one, because of a cell without a number."""
    for system in systems:
        for run in system.runs:
            if name in run.conditions and (
                wrong := [file for file in run.files if read_number(file.conditions.get(name, "")) is None]
            ):
                raise DataError(
                    f"`{run.sources.get('scores', system.name)}` has `{wrong[0].conditions[name]}` as {name} of "
                    f"`{wrong[0].id}`, which is not a number",
                    remedy="leave the cell empty if the file has no value; or give the column another name, if it is "
                    "not the metric of the other systems",
                )


def _constant(names: Sequence[str], systems: Sequence[ScoredSystem]) -> list[str]:
    """Returns the columns of numbers of other programs that are the same in all systems, such as the SNR of a file.

    If this is so for all columns, the scores are identical, and none of them is returned.
    """
    ids = _common_files(systems)
    found = []
    for name in names:
        known = any(metric.identity for system in systems for metric in system.runs[0].metrics if metric.name == name)
        if known or not all(name in system.metrics for system in systems):
            continue
        rows = [row for system in systems for row in system.values(name, ids)]
        if all(np.array_equal(row, rows[0], equal_nan=True) for row in rows):
            found.append(name)
    return found if len(found) < len(names) else []
