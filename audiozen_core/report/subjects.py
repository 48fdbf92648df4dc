"""Finds the systems of a report: their scores, if they have any, and their run folders."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from audiozen_core.comparison.configs import find_run, main_config
from audiozen_core.comparison.load_systems import LoadedSystem, load_systems
from audiozen_core.comparison.system_specs import SystemSpec
from audiozen_core.errors import RunError
from audiozen_core.results.result_folders import find_results
from audiozen_core.results.scores import Scores


@dataclass(frozen=True, slots=True)
class ReportRun:
    """One run of a system.

    Attributes:
        label: the name of the run in the report: the name of the system, plus the folder if there are several seeds.
        system: the name of the system.
        series: the index of the system, which determines its colour.
        folder: the run folder.
        config: the configuration as TOML; None if it is unknown.
    """

    label: str
    system: str
    series: int
    folder: Path
    config: str | None


@dataclass(frozen=True, slots=True)
class Subject:
    """A system of a report.

    Attributes:
        name: the name of the system.
        series: the index of the system, which determines its colour.
        loaded: the scores and audio; None if the system has no scores.
        missing: sentences that explain why some or all runs have no scores; "" if all runs have scores.
        runs: the runs, including runs without scores. Empty for a CSV file.
    """

    name: str
    series: int
    loaded: LoadedSystem | None
    missing: str
    runs: tuple[ReportRun, ...]

    @property
    def scores(self) -> tuple[Scores, ...]:
        """The scores of the runs that have scores."""
        return self.loaded.scored.runs if self.loaded else ()


def find_subjects(named: Sequence[SystemSpec], *, checkpoint: str, by: Collection[str]) -> list[Subject]:
    """Finds the scores and runs of each system. A run without a test is not an error: see `Subject.missing`.

    Args:
        named: the systems that the user named.
        checkpoint: for systems that are runs: the checkpoint whose latest test is read; "" for the latest test of any
            checkpoint.
        by: the names of conditions. In a CSV file from another program, these columns are not metrics.

    Raises:
        AudioZenError: a folder is not a run folder and has no scores, or scores can't be read.
    """
    tested: list[SystemSpec] = []
    missing = []
    for system in named:
        having, lacking = [], []
        for path in system.paths:
            try:
                find_results(path, checkpoint)
                having.append(path)
            except RunError as error:
                lacking.append(f"{_sentence(error.message)} {_sentence(error.remedy)}".strip())
        missing.append(" ".join(lacking))
        if having:
            tested.append(replace(system, paths=tuple(having)))
    found = iter(load_systems(tested, checkpoint=checkpoint, by=by))
    texts = {system.text for system in tested}
    subjects: list[Subject] = []
    for series, (system, reasons) in enumerate(zip(named, missing, strict=True)):
        scored = next(found) if system.text in texts else None
        name = scored.scored.name if scored else _unique_name(system, [subject.name for subject in subjects])
        subjects.append(Subject(name, series, scored, reasons, _runs(name, series, system, scored)))
    return subjects


def _sentence(text: str | None) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}." if text else ""


def _unique_name(system: SystemSpec, taken: Collection[str]) -> str:
    name = system.name or system.paths[0].absolute().name
    if len(system.paths) > 1 and not system.name:
        name = name.rpartition("_seed_")[0] or name
    return system.text if name in taken else name


def _runs(name: str, series: int, system: SystemSpec, loaded: LoadedSystem | None) -> tuple[ReportRun, ...]:
    if system.state:  # such as the input files of a test, which are not the output of a run
        return ()
    folders = [folder for folder in (loaded.folders if loaded else ()) if folder]
    folders += [folder for path in system.paths if path.is_dir() and (folder := find_run(path))]
    distinct = list(dict.fromkeys(folder.absolute() for folder in folders))
    return tuple(
        ReportRun(f"{name} ({folder.name})" if len(distinct) > 1 else name, name, series, folder, main_config(folder))
        for folder in distinct
    )
