"""Notes for the user on compared scores: left-out files, warnings, and the limits of the tests."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from audiozen_core.diagnostics.listed import listed, pronoun
from audiozen_core.results.paired import SIGNIFICANT, PairedDifference
from audiozen_core.results.records import MetricInfo
from audiozen_core.results.systems import ScoredSystem, identity_notes

_MOST = 5

ONE_RUN_EACH = (
    "each system has one run: the tests show whether these outputs differ on files like these, but not whether the "
    "systems would still differ with other seeds"
)
"""The note on a comparison in which no system has several seeds."""


def notes_on_files(systems: Sequence[ScoredSystem], ids: Sequence[str]) -> Iterator[str]:
    """Yields notes on files that are left out because a system, or one of its runs, lacks them."""
    common = set(ids)
    extra: dict[tuple[str, ...], list[str]] = {}
    having: dict[str, list[str]] = {}
    for system in systems:
        for name in system.ids:
            if name not in common:
                having.setdefault(name, []).append(system.name)
    for name, names in having.items():
        extra.setdefault(tuple(names), []).append(name)
    for having_names, files in extra.items():
        only = f"only {' and '.join(having_names)} {'have' if len(having_names) > 1 else 'has'}"
        yield f"{_left_out(files)}, because {only} {pronoun(len(files))}: {listed(files, most=_MOST)}"
    for system in systems:
        names_of_all_runs = dict.fromkeys(file.id for run in system.runs for file in run.files)
        partial = [name for name in names_of_all_runs if name not in set(system.ids)]
        if partial:
            yield (
                f"{_left_out(partial)}, because not all runs of {system.name} have {pronoun(len(partial))}: "
                f"{listed(partial, most=_MOST)}"
            )


def notes_on_metrics(systems: Sequence[ScoredSystem], metrics: Sequence[str]) -> Iterator[str]:
    """Yields warnings about metrics that were computed in different ways, and about runs with identical scores."""
    for name in metrics:
        having = [system for system in systems if name in system.metrics]
        for line in identity_notes(name, having):
            yield f"warning: {line}"
    runs = [
        (f"{system.name}, run {number}" if len(system.runs) > 1 else system.name, run)
        for system in systems
        for number, run in enumerate(system.runs, 1)
    ]
    for (first_name, first), (second_name, second) in combinations(runs, 2):
        # NaN is not equal to itself, so the values are compared as text.
        if {file.id: repr(dict(file.values)) for file in first.files} == {
            file.id: repr(dict(file.values)) for file in second.files
        }:
            yield f"warning: the scores of {first_name} and {second_name} are identical, file by file"


def notes_on_differences(
    systems: Sequence[ScoredSystem],
    metrics: Sequence[MetricInfo],
    differences: Sequence[PairedDifference],
    missing: Mapping[str, Mapping[str, Mapping[str, str]]],
    count: int,
) -> Iterator[str]:
    """Yields notes on files without a value, and on tests in which no difference can be significant.

    Args:
        systems: the systems.
        metrics: the compared metrics.
        differences: the differences over all files.
        missing: by metric, system and file ID, why the file has no value.
        count: the number of files that all systems have.
    """
    for metric in metrics:
        for system, files in missing[metric.name].items():
            if files:
                yield (
                    f"{metric.label or metric.name}: {len(files)} of {count} files have no value in {system}, so this "
                    f"metric leaves them out for all systems: {listed(map(_with_reason, files.items()), most=_MOST)}"
                )
    if few := too_few(differences, "files or listeners" if systems[0].ratings else "files"):
        yield few


def notes_on_seeds(systems: Sequence[ScoredSystem], differences: Sequence[PairedDifference]) -> Iterator[str]:
    """Yields notes on what the tests show about other seeds."""
    for difference in _undecided(differences):
        yield (
            f"{difference.metric}: these networks of {difference.system} differ significantly from the baseline, but "
            "the interval over files and seeds contains zero, so other seeds may show no difference"
        )
    several = [system.name for system in systems if len(system.runs) > 1]
    if not several:
        yield ONE_RUN_EACH
    elif len(several) < len(systems):
        yield f"the intervals only cover the seeds of {listed(several)}, because the other systems have one run each"


def notes_on_listeners(differences: Sequence[PairedDifference], listeners: Sequence[str]) -> Iterator[str]:
    """Yields notes on what the tests show about other listeners."""
    for difference in _undecided(differences):
        yield (
            f"{difference.metric}: these ratings of {difference.system} differ significantly from the baseline, but "
            "the interval over files and listeners contains zero, so other listeners may hear no difference"
        )
    if len(listeners) == 1:
        yield (
            "only one listener: the tests show whether the ratings of this listener differ on files like these, but "
            "not whether other listeners would agree"
        )


def too_few(differences: Sequence[PairedDifference], what: str = "files") -> str:
    """Returns a note if too few files differ for any difference to be significant, and "" otherwise."""
    tests = [difference for difference in differences if math.isfinite(difference.p)]
    if not tests or any(test.smallest_p * len(tests) < SIGNIFICANT for test in tests):
        return ""
    smallest = min(test.smallest_p for test in tests)
    return (
        f"no difference can be significant: so few {what} differ that the smallest possible p is "
        f"{smallest:.2g}, before the correction for {len(tests)} test{'s' * (len(tests) > 1)}"
    )


def _undecided(differences: Sequence[PairedDifference]) -> Iterator[PairedDifference]:
    """Yields differences with a significant p-value whose interval over seeds or listeners contains zero."""
    return (
        difference
        for difference in differences
        if difference.over_seeds and difference.p_holm < SIGNIFICANT and not difference.verdict and difference.mean
    )


def _left_out(files: Sequence[str]) -> str:
    return f"{len(files)} file{'s are' if len(files) > 1 else ' is'} left out"


def _with_reason(item: tuple[str, str]) -> str:
    name, reason = item
    return f"{name} ({reason})" if reason else name
