"""Finds the recordings of a listening test: those of each system, and the clean and noisy ones of the same files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiozen_core.comparison.configs import find_run
from audiozen_core.comparison.named import NamedSystem, parse_systems
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
        name: its name.
        source: the folder of its recordings, in words.
        files: its recordings by ID.
        clean: the clean recordings of the same files by ID; empty if they are not known.
        noisy: the recordings that the system was given, by ID; empty if they are not known.
    """

    name: str
    source: str
    files: Mapping[str, Path]
    clean: Mapping[str, Path]
    noisy: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Recordings:
    """The recordings of all systems.

    Attributes:
        systems: the systems in the order of the user.
        ids: the IDs of the files that all of them have, sorted.
        clean: the clean recordings by ID; empty if they are not known.
        noisy: the noisy recordings by ID; empty if they are not known.
        notes: what is remarkable, in words.
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
) -> Recordings:
    """Finds the recordings of systems.

    Args:
        systems: runs, result folders of tests or folders of audio, as for `compare`.
        clean: the folder of the clean recordings; None for those of the tests.
        noisy: the folder of the noisy recordings; None for those of the tests.
        checkpoint: of runs, the checkpoint whose test is taken; None for the latest test.

    Raises:
        RunError: a run has no finished test, or its test has kept no audio.
        DataError: the systems have no file in common, or a folder has no audio.
    """
    named = parse_systems(systems)
    if not named:
        raise RunError("a listening test needs a system", remedy="name a run or a folder of audio")
    folders = [_folder(system, checkpoint or "") for system in named]
    names = _names(named, folders)
    found = []
    notes = [note for system in named for note in system.notes]
    for name, folder in zip(names, folders, strict=True):
        pairing = pair_files(folder, {CLEAN: clean, "noisy": noisy}, allow_missing=True)
        notes += [f"{name}: {finding}" for finding in pairing.findings]
        of = {
            kind: {file.id: file.paths[kind] for file in pairing.files if kind in file.paths}
            for kind in (RATED, CLEAN, "noisy")
        }
        found.append(AudioSystem(name, str(pairing.folders[RATED]), of[RATED], of[CLEAN], of["noisy"]))
    shared = set(found[0].files).intersection(*(system.files for system in found[1:]))
    if not shared:
        raise DataError(
            "the systems have no file in common, so nobody can compare them by ear",
            notes=[f"IDs of {system.name}: {listed(sorted(system.files), most=3)}" for system in found],
            remedy="name results of the same test set, in which each file has the same ID",
        )
    for system in found:
        only = sorted(set(system.files) - shared)
        if only:
            notes.append(
                f"{len(only)} file{'s' * (len(only) > 1)} of {system.name} can't be chosen, because another system "
                f"lacks {'them' if len(only) > 1 else 'it'}: {listed(only, most=5)}"
            )
    return Recordings(
        tuple(found),
        tuple(sorted(shared)),
        next((system.clean for system in found if system.clean), {}),
        next((system.noisy for system in found if system.noisy), {}),
        tuple(notes),
    )


def _folder(system: NamedSystem, checkpoint: str) -> Path:
    if len(system.paths) > 1:
        raise RunError(
            f"`{system.text}` stands for {len(system.paths)} runs, but a listener hears one",
            remedy=f"name one of them, such as `{system.paths[0]}`",
        )
    if system.state:
        raise RunError(
            f"`{system.text}` names the state `{system.state}`, but a listening test has the output of a system",
            remedy=f"leave out `:{system.state}`; `--anchor noisy` adds the noisy recordings",
        )
    path = system.paths[0]
    if not path.is_dir():
        raise RunError(f"`{path}` is not a folder", remedy="name a run, the results of a test, or a folder of audio")
    return find_results(path, checkpoint) or path


def _names(named: Sequence[NamedSystem], folders: Sequence[Path]) -> list[str]:
    """Returns a name of its own for each system.

    Raises:
        RunError: two systems have the same name, or one has that of an anchor.
    """
    names = []
    for system, folder in zip(named, folders, strict=True):
        run = find_run(folder)
        names.append(system.name or (run or system.paths[0].absolute()).name)
    counts = Counter(names)
    if clash := next((name for name in names if counts[name] > 1), None):
        same = [system for name, system in zip(names, named, strict=True) if name == clash]
        given = " ".join(f"NAME{place}={system.text.rpartition('=')[2]}" for place, system in enumerate(same, 1))
        raise RunError(
            f"{len(same)} systems are called `{clash}`: {listed([system.text for system in same])}",
            remedy=f"give each a name of its own: {given}",
        )
    if taken := next((name for name in names if name in (REFERENCE, NOISY, *LOW_PASSES)), None):
        raise RunError(
            f"a system is called `{taken}`, as the {'hidden reference' if taken == REFERENCE else 'anchor'} is",
            remedy=f"give it another name: NAME={named[names.index(taken)].text}",
        )
    return names
