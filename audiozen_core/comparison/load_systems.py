"""Finds the scores, the audio and the configurations of the systems that a user has named."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from audiozen_core.comparison.configs import find_run, main_config
from audiozen_core.comparison.system_specs import SystemSpec
from audiozen_core.errors import DataError
from audiozen_core.results.files import number
from audiozen_core.results.id_table import audio_id
from audiozen_core.results.reading import read_scores
from audiozen_core.results.records import FileScores
from audiozen_core.results.result_folders import find_results
from audiozen_core.results.scores import Scores
from audiozen_core.results.systems import ScoredSystem
from audiozen_core.storage.atomic import INCOMPLETE
from audiozen_core.storage.audio_suffixes import AUDIO_SUFFIXES

# Two machines that rate the same files with the same metric get scores that differ by less than this value.
_SAME = 1e-3

# A test writes `a_noisy.wav`, `a_clean.wav` and, for each speaker, `a_separated_1.wav`.
_OF_KIND = re.compile(r"(.+?)_([a-z]+(?:_\d+)?)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class LoadedSystem:
    """A system with its scores, configurations, folders and audio.

    Attributes:
        scored: the scores of the system.
        configs: the configuration of each run as TOML; None if it is unknown.
        unprocessed: the scores of the unprocessed input files, if a test has them.
        notes: notes about the system, such as warnings.
        folders: the folder of each run; None if it is unknown.
        references: the audio files that the system's files were made from or compared with, by the name of the signal,
            such as `clean`, and by ID.
    """

    scored: ScoredSystem
    configs: tuple[str | None, ...]
    unprocessed: Scores | None
    notes: tuple[str, ...]
    folders: tuple[Path | None, ...] = ()
    references: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Run:
    scores: Scores
    source: str
    audio: Mapping[str, str]
    folder: Path | None
    unprocessed: Scores | None
    notes: tuple[str, ...]


def load_systems(named: Sequence[SystemSpec], *, checkpoint: str, by: Collection[str]) -> list[LoadedSystem]:
    """Reads the scores of systems, and gives each system a unique name.

    Args:
        named: the systems that the user has named.
        checkpoint: for runs, the checkpoint whose latest test is read; "" for the latest test of any checkpoint.
        by: the names of conditions. In a CSV file of another program, a column of
            numbers with such a name is read as a condition, and not as a metric.

    Raises:
        AudioZenError: a system has no scores, or the scores can't be read.
    """
    runs = [[_read(path, system.state, checkpoint, by) for path in system.paths] for system in named]
    wanted = [system.name or _name_of(system, seeds) for system, seeds in zip(named, runs, strict=True)]
    found = []
    for name, system, seeds in zip(_names(wanted, named), named, runs, strict=True):
        scored = ScoredSystem(
            name,
            tuple(run.scores for run in seeds),
            tuple(run.source for run in seeds),
            tuple(run.audio for run in seeds),
        )
        configs = tuple(main_config(run.folder) if run.folder else None for run in seeds)
        notes = (*system.notes, *(note for run in seeds for note in run.notes))
        folders = tuple(run.folder for run in seeds)
        found.append(LoadedSystem(scored, configs, seeds[0].unprocessed, notes, folders, _references(scored)))
    return found


def other_inputs(systems: Sequence[LoadedSystem]) -> Iterator[str]:
    """Yields a warning for each test whose unprocessed files don't have the same scores as in the baseline's test.

    Two test sets may have the same IDs but different files, for example with other noises.
    """
    first = systems[0]
    if first.unprocessed is None:
        return
    before = {file.id: file.values for file in first.unprocessed.files}
    for system in systems[1:]:
        if system.unprocessed is None:
            continue
        after = {file.id: file.values for file in system.unprocessed.files}
        for metric in first.unprocessed.metrics:
            same = [
                other
                for other in system.unprocessed.metrics
                if (other.name, other.identity) == (metric.name, metric.identity)
            ]
            if not same:
                continue
            shared = [name for name in before if name in after]
            pairs = [(before[name][metric.name], after[name][metric.name]) for name in shared]
            changed = sum(abs(old - new) > _SAME for old, new in pairs if math.isfinite(old + new))
            if changed:
                yield (
                    f"warning: {first.scored.name} and {system.scored.name} were tested with different files that have "
                    f"the same IDs: {changed} of {len(shared)} have a different {metric.label} before processing"
                )
                break


def _read(path: Path, state: str, checkpoint: str, by: Collection[str]) -> _Run:
    results = find_results(path, checkpoint)
    scores = _tidy(read_scores(results or path, state=state or None), by)
    if results is None:  # a CSV file, which may be in a run folder without belonging to the run
        return _Run(scores, str(path), {}, None, None, ())
    source = f"{results}{f', {state}' * bool(state)}"
    states = _states(results)
    if states:
        unprocessed = read_scores(results, state=states[0]) if len(states) > 1 else None
        chosen = state or states[-1]
        audio = _audio(results / "audio", chosen)
        # Without a folder, no settings are compared. They do not affect the scores of a run's input files.
        folder = find_run(results) if chosen == states[-1] else None
        return _Run(scores, source, audio, folder, unprocessed, tuple(_newer(path, results)))
    enhanced = scores.sources.get("enhanced", "")
    folder = Path(enhanced) if enhanced else None
    run = find_run(folder) if folder and folder.is_dir() else None
    return _Run(scores, source, _audio(folder, "enhanced") if folder else {}, run, None, ())


def _tidy(scores: Scores, by: Collection[str]) -> Scores:
    """Removes audio extensions from the IDs, and turns columns that only look like metrics into conditions."""
    counts = Counter(audio_id(file.id) for file in scores.files)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise DataError(
            f"`{scores.sources.get('scores', 'the scores')}` has two rows for `{twice[0]}`, with different extensions",
            remedy="keep one row for each audio file",
        )
    moved = [metric.name for metric in scores.metrics if metric.name in by and not metric.identity]
    files = tuple(
        FileScores(
            audio_id(file.id),
            {name: value for name, value in file.values.items() if name not in moved},
            {**file.conditions, **{name: number(file.values[name]) for name in moved}},
            file.reasons,
        )
        for file in scores.files
    )
    metrics = tuple(metric for metric in scores.metrics if metric.name not in moved)
    return replace(scores, metrics=metrics, files=files, conditions=(*scores.conditions, *moved))


def _states(results: Path) -> list[str]:
    """Returns the states of the scores of a test, such as `noisy` and `enhanced`; [] if there is no test."""
    try:
        content = json.loads((results / "scores.json").read_text(encoding="utf-8"))
        if "kind" in content:
            return []
        first = next(iter(content["all"].values()))
        return [name for name in first if name not in ("gain", "missing")]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, StopIteration):
        return []


def _audio(folder: Path, state: str) -> dict[str, str]:
    """Returns the audio files of a folder by ID. An ID is the path in the folder, without extension and state."""
    found: dict[str, str] = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            if path.suffix.lower() in AUDIO_SUFFIXES:
                key = path.relative_to(folder).with_suffix("").as_posix()
                if key.endswith(f"_{state}"):
                    found[key.removesuffix(f"_{state}")] = str(path)
                else:
                    found.setdefault(key, str(path))
    return found


def _references(system: ScoredSystem) -> dict[str, dict[str, str]]:
    """Returns the reference audio of the first run, from the folders that its scores name or from its test results."""
    sources, ids = system.runs[0].sources, set(system.ids)
    found: dict[str, dict[str, str]] = {}
    for kind, folder in sources.items():
        if kind not in ("scores", "state", "enhanced") and Path(folder).is_dir():
            found[kind] = _audio(Path(folder), kind)
    for key, path in system.audio[0].items():
        if key not in ids and (match := _OF_KIND.fullmatch(key)) and match[1] in ids:
            found.setdefault(match[2], {})[match[1]] = path
    return found


def _newer(path: Path, results: Path) -> Iterator[str]:
    """Yields a warning if the run has a newer test that is not complete."""
    tests = path / "test"
    if not tests.is_dir() or not results.is_relative_to(tests):
        return
    chosen = tests / results.relative_to(tests).parts[0]
    newer = [
        folder.name
        for folder in tests.iterdir()
        if folder.name.endswith(INCOMPLETE) and folder.stat().st_mtime_ns > chosen.stat().st_mtime_ns
    ]
    if newer:
        yield (
            f"warning: the test `{newer[0].removesuffix(INCOMPLETE)}` of `{path}` is not complete, so the older test "
            f"`{chosen.name}` is compared"
        )


def _name_of(system: SystemSpec, runs: Sequence[_Run]) -> str:
    if system.state:
        return system.state
    path, run = system.paths[0], runs[0].folder
    if run is not None:
        name = run.name
    elif path.is_file():
        name = path.parent.absolute().name if path.stem == "scores" else path.stem
    else:
        name = path.absolute().name
    # The seeds of `baseline` are in `baseline_seed_0`, ….
    return name.rpartition("_seed_")[0] or name if len(runs) > 1 else name


def _names(wanted: Sequence[str], named: Sequence[SystemSpec]) -> list[str]:
    """Returns a unique name for each system. Equal names are replaced by the user's texts, and then numbered."""
    counts = Counter(wanted)
    names = [
        name if counts[name] == 1 or system.name else system.text for name, system in zip(wanted, named, strict=True)
    ]
    found: list[str] = []
    for name in names:
        number = 2
        unique = name
        while unique in found:
            unique, number = f"{name} ({number})", number + 1
        found.append(unique)
    return found
