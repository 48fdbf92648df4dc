"""What is remarkable about scores that are compared, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from audiozen_core.diagnostics.listed import listed
from audiozen_core.results.paired import SIGNIFICANT, PairedDifference
from audiozen_core.results.records import MetricInfo
from audiozen_core.results.systems import ScoredSystem, identity_notes

_MOST = 5


def notes_on_files(systems: Sequence[ScoredSystem], ids: Sequence[str]) -> Iterator[str]:
    """Yields which files are left out because a system, or a seed of a system, does not have them."""
    common = set(ids)
    extra: dict[tuple[str, ...], list[str]] = {}
    having: dict[str, list[str]] = {}
    for system in systems:
        for name in system.ids:
            if name not in common:
                having.setdefault(name, []).append(system.name)
    for name, names in having.items():
        extra.setdefault(tuple(names), []).append(name)
    for owners, files in extra.items():
        only = f"only {' and '.join(owners)} {'have' if len(owners) > 1 else 'has'}"
        yield f"{_left_out(files)}, because {only} {_them(files)}: {listed(files, most=_MOST)}"
    for system in systems:
        every = dict.fromkeys(file.id for run in system.runs for file in run.files)
        partial = [name for name in every if name not in set(system.ids)]
        if partial:
            yield (
                f"{_left_out(partial)}, because not all runs of {system.name} have {_them(partial)}: "
                f"{listed(partial, most=_MOST)}"
            )


def notes_on_metrics(systems: Sequence[ScoredSystem], metrics: Sequence[str]) -> Iterator[str]:
    """Yields where the definitions of a metric differ, and which runs have the same scores."""
    for name in metrics:
        having = [system for system in systems if name in system.metrics]
        for line in identity_notes(name, having):
            yield f"warning: {line}"
    runs = [
        (f"{system.name}, run {place}" if len(system.runs) > 1 else system.name, run)
        for system in systems
        for place, run in enumerate(system.runs, 1)
    ]
    for (one_name, one), (other_name, other) in combinations(runs, 2):
        # NaN differs from itself, so the values are compared as text.
        if {file.id: repr(dict(file.values)) for file in one.files} == {
            file.id: repr(dict(file.values)) for file in other.files
        }:
            yield f"warning: the scores of {one_name} and {other_name} are identical, file by file"


def notes_on_differences(
    systems: Sequence[ScoredSystem],
    metrics: Sequence[MetricInfo],
    differences: Sequence[PairedDifference],
    missing: Mapping[str, Mapping[str, Mapping[str, str]]],
    count: int,
) -> Iterator[str]:
    """Yields which files have no value, how the differences were tested, and what the tests can't say."""
    for metric in metrics:
        for system, files in missing[metric.name].items():
            if files:
                yield (
                    f"{metric.label or metric.name}: {len(files)} of {count} files have no value in {system}, and are "
                    f"left out of this metric for all systems: {listed(map(_with_reason, files.items()), most=_MOST)}"
                )
    tests = [one for one in differences if math.isfinite(one.p)]
    if tests and all(one.smallest_p * len(tests) >= SIGNIFICANT for one in tests):
        smallest = min(one.smallest_p for one in tests)
        what = "files or listeners" if systems[0].ratings else "files"
        yield (
            f"no difference can be significant: with so few {what} that differ, the smallest possible p is "
            f"{smallest:.2g}, before the correction for {len(tests)} test{'s' * (len(tests) > 1)}"
        )


def notes_on_seeds(systems: Sequence[ScoredSystem], differences: Sequence[PairedDifference]) -> Iterator[str]:
    """Yields what the tests say about other seeds."""
    for one in _undecided(differences):
        yield (
            f"{one.metric}: these networks of {one.system} differ significantly, but the interval over files and "
            "seeds contains zero, so other seeds may show no difference"
        )
    several = [system.name for system in systems if len(system.runs) > 1]
    if not several:
        yield "one run each: the tests say whether these outputs differ on such files, not whether other seeds would"
    elif len(several) < len(systems):
        yield f"the intervals cover the seeds of {listed(several)} only, because the other systems have one run each"


def notes_on_listeners(differences: Sequence[PairedDifference], listeners: Sequence[str]) -> Iterator[str]:
    """Yields what the tests say about other listeners."""
    for one in _undecided(differences):
        yield (
            f"{one.metric}: these ratings of {one.system} differ significantly, but the interval over files and "
            "listeners contains zero, so other ones may show no difference"
        )
    if len(listeners) == 1:
        yield "one listener: the tests say whether the ratings differ on such files, not whether others would agree"


def _undecided(differences: Sequence[PairedDifference]) -> Iterator[PairedDifference]:
    return (one for one in differences if one.over_seeds and one.p_holm < SIGNIFICANT and not one.verdict and one.mean)


def _left_out(files: Sequence[str]) -> str:
    return f"{len(files)} file{'s are' if len(files) > 1 else ' is'} left out"


def _them(files: Sequence[str]) -> str:
    return "them" if len(files) > 1 else "it"


def _with_reason(item: tuple[str, str]) -> str:
    name, reason = item
    return f"{name} ({reason})" if reason else name
