"""Finds the recordings for a listening test: the outputs of each system, and the clean and noisy recordings."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiozen_core.comparison.configs import find_run
from audiozen_core.comparison.system_specs import SystemSpec, parse_systems
from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import DataError, RunError
from audiozen_core.listening.anchors import LOW_PASSES, NOISY, REFERENCE
from audiozen_core.results.result_folders import find_results
from audiozen_core.scoring.pairing import RATED, pair_files

CLEAN = "clean"

Named = (
    Sequence[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str] | Sequence[str | os.PathLike[str]]]
)  # as for `compare`


@dataclass(frozen=True, slots=True)
class AudioSystem:
    """The recordings of one system.

    Attributes:
        name: the name of the system.
        source: the folder of the recordings, as text.
        files: the recordings of the system, by ID.
        clean: the clean recordings of the same files, by ID; empty if they are unknown.
        noisy: the noisy recordings that were the input of the system, by ID; empty if they are unknown.
    """

    name: str
    source: str
    files: Mapping[str, Path]
    clean: Mapping[str, Path]
    noisy: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class SystemRecordings:
    """The recordings of all systems.

    Attributes:
        systems: the systems, in the order of the user.
        ids: the IDs of the files that all systems have, sorted.
        clean: the clean recordings by ID; empty if they are unknown.
        noisy: the noisy recordings by ID; empty if they are unknown.
        notes: warnings and remarks for the user.
    """

    systems: tuple[AudioSystem, ...]
    ids: tuple[str, ...]
    clean: Mapping[str, Path]
    noisy: Mapping[str, Path]
    notes: tuple[str, ...]


def find_recordings(
    systems: Named,
    *,
    clean: str | Path | None = None,
    noisy: str | Path | None = None,
    checkpoint: str | None = None,
) -> SystemRecordings:
    """Finds the recordings of systems.

    Args:
        systems: runs, result folders of tests or folders of audio, as for `compare`.
        clean: the folder of the clean recordings; None for the clean recordings of the tests.
        noisy: the folder of the noisy recordings; None for the noisy recordings of the tests.
        checkpoint: for systems that are runs: the checkpoint whose test is used; None for the latest test.

    Raises:
        RunError: a run has no finished test, or its test did not save its audio.
        DataError: the systems have no file in common, or a folder has no audio.
    """
    named = parse_systems(systems)
    if not named:
        raise RunError("a listening test needs at least one system", remedy="give a run or a folder of audio")
    folders = [_folder(system, checkpoint or "") for system in named]
    names = _names(named, folders)
    audio_systems = []
    notes = [note for system in named for note in system.notes]
    for name, folder in zip(names, folders, strict=True):
        pairing = pair_files(folder, {CLEAN: clean, "noisy": noisy}, allow_missing=True)
        notes += [f"{name}: {finding}" for finding in pairing.findings]
        paths = {
            kind: {file.id: file.paths[kind] for file in pairing.files if kind in file.paths}
            for kind in (RATED, CLEAN, "noisy")
        }
        audio_systems.append(AudioSystem(name, str(pairing.folders[RATED]), paths[RATED], paths[CLEAN], paths["noisy"]))
    shared = set(audio_systems[0].files).intersection(*(system.files for system in audio_systems[1:]))
    if not shared:
        raise DataError(
            "the systems have no file in common, so a listening test can't compare them",
            notes=[f"IDs of {system.name}: {listed(sorted(system.files), most=3)}" for system in audio_systems],
            remedy="use results on the same test set, with the same IDs for the same files",
        )
    for system in audio_systems:
        not_shared = sorted(set(system.files) - shared)
        if not_shared:
            several = len(not_shared) > 1
            notes.append(
                f"{len(not_shared)} file{'s' * several} of {system.name} can't be used, because another system lacks "
                f"{'them' if several else 'it'}: {listed(not_shared, most=5)}"
            )
    return SystemRecordings(
        tuple(audio_systems),
        tuple(sorted(shared)),
        next((system.clean for system in audio_systems if system.clean), {}),
        next((system.noisy for system in audio_systems if system.noisy), {}),
        tuple(notes),
    )


def _folder(system: SystemSpec, checkpoint: str) -> Path:
    if len(system.paths) > 1:
        raise RunError(
            f"`{system.text}` stands for {len(system.paths)} runs, but a listening test needs a single run",
            remedy=f"choose one of the runs, such as `{system.paths[0]}`",
        )
    if system.state:
        raise RunError(
            f"`{system.text}` selects the state `{system.state}`, but a listening test only uses outputs of systems",
            remedy=f"leave out `:{system.state}`; `--anchor noisy` adds the noisy recordings",
        )
    path = system.paths[0]
    if not path.is_dir():
        raise RunError(f"`{path}` is not a folder", remedy="give a run, the results of a test, or a folder of audio")
    return find_results(path, checkpoint) or path


def _names(named: Sequence[SystemSpec], folders: Sequence[Path]) -> list[str]:
    """Returns the names of the systems, and checks that they are distinct.

    Raises:
        RunError: two systems have the same name, or a system has the name of an anchor or of the hidden reference.
    """
    names = []
    for system, folder in zip(named, folders, strict=True):
        run = find_run(folder)
        names.append(system.name or (run or system.paths[0].absolute()).name)
    counts = Counter(names)
    if clash := next((name for name in names if counts[name] > 1), None):
        same = [system for name, system in zip(names, named, strict=True) if name == clash]
        example = " ".join(f"NAME{number}={system.text.rpartition('=')[2]}" for number, system in enumerate(same, 1))
        raise RunError(
            f"{len(same)} systems are called `{clash}`: {listed([system.text for system in same])}",
            remedy=f"give each system a different name: {example}",
        )
    if reserved := next((name for name in names if name in (REFERENCE, NOISY, *LOW_PASSES)), None):
        raise RunError(
            f"a system can't be called `{reserved}`, because this is the name of "
            f"{'the hidden reference' if reserved == REFERENCE else 'an anchor'}",
            remedy=f"give the system another name: NAME={named[names.index(reserved)].text}",
        )
    return names
