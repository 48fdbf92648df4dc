"""All runs of some folders, and which of their settings differ."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from audiozen_core.errors import RunError
from audiozen_core.experiment.config_diff import PLACES, settings_of
from audiozen_core.experiment.run_records import main_record
from audiozen_core.runs.found import RUN_FILES, find_runs
from audiozen_core.runs.summary import RunState, RunSummary, read_run

RunOrder = Literal["name", "best", "time", "written"]
ORDERS: tuple[RunOrder, ...] = get_args(RunOrder)


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run in a list.

    Attributes:
        name: its path below the folder that was named; with several folders, the path as it was named.
        run: what is known about it.
        settings: of the settings that differ between the runs of the list, its values as TOML; those that its
            configuration does not have are missing.
    """

    name: str
    run: RunSummary
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RunList:
    """The runs of some folders.

    Attributes:
        runs: the runs.
        differing: the keys of the settings that differ between them, in the order of the configurations.
        warnings: what could not be read, in words.
    """

    runs: Sequence[ListedRun]
    differing: Sequence[str]
    warnings: Sequence[str]


def list_runs(
    folders: Sequence[Path], *, order: RunOrder = "name", states: Collection[RunState] = (), cache: ConfigCache
) -> RunList:
    """Lists the runs of some folders.

    Args:
        folders: the folders; each may be a run itself.
        order: `name`; `best`, the best score first; `time`, the longest training first; `written`, the newest first.
        states: only runs in one of these states; all by default.
        cache: the configurations that have been read already.

    Raises:
        RunError: a folder does not exist, or the folders have no runs.
    """
    warnings: list[str] = []
    found: dict[Path, str] = {}
    for folder in folders:
        if not folder.is_dir():
            raise RunError(
                f"`{folder}` is not a folder", remedy="name a folder with runs, such as `exp`, or the folder of a run"
            )
        for path in find_runs(folder, warnings):
            is_below = len(folders) == 1 and path != folder
            found.setdefault(path, str(path.relative_to(folder)) if is_below else str(path))
    if not found:
        raise RunError(
            f"no runs in {', '.join(f'`{folder}`' for folder in folders)}",
            notes=[f"it can't be read: {warning}" for warning in warnings],
            remedy=f"name a folder with runs, such as `exp`: a folder with {', '.join(RUN_FILES)} is a run",
        )
    chosen: list[tuple[str, RunSummary, Mapping[str, str]]] = []
    for path, name in found.items():
        try:
            run = read_run(path)
        except OSError as error:
            warnings.append(f"{path}: {error.strerror}")
            continue
        if not states or run.state in states:
            chosen.append((name, run, cache.settings(run)))
    differing = _differing([settings for _, _, settings in chosen])
    runs = [
        ListedRun(name, run, {key: settings[key] for key in differing if key in settings})
        for name, run, settings in chosen
    ]
    return RunList(_sorted(runs, order), differing, warnings)


class ConfigCache:
    """The configurations of runs. A record never changes once it is written, so each is read once."""

    def __init__(self) -> None:
        self._read: dict[Path, Mapping[str, str]] = {}

    def settings(self, run: RunSummary) -> Mapping[str, str]:
        """Returns the settings of a run's newest training, or else of its newest start; {} if they can't be read."""
        path = main_record(run.folder)
        if path is None:
            return {}
        if path not in self._read:
            try:
                settings = settings_of(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError):
                return {}
            self._read[path] = {key: value for key, value in settings.items() if key not in PLACES}
        return self._read[path]


def _differing(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Returns the keys that differ between the runs whose settings are known."""
    known = [of for of in settings if of]
    keys = dict.fromkeys(key for of in known for key in of)
    return [key for key in keys if len({of.get(key) for of in known}) > 1]


def _sorted(runs: Sequence[ListedRun], order: RunOrder) -> list[ListedRun]:
    def by_best(listed: ListedRun) -> tuple[bool, str, float]:
        best, run = listed.run.best, listed.run
        if best is None:
            return True, "", 0.0
        return False, run.monitor, best.score if run.higher_is_better is False else -best.score

    if order == "best":
        return sorted(runs, key=by_best)
    if order == "time":
        return sorted(runs, key=lambda listed: -(listed.run.training_seconds or -1.0))
    if order == "written":
        return sorted(runs, key=lambda listed: -(listed.run.written.timestamp() if listed.run.written else 0.0))
    return list(runs)
