"""Lists the runs in some folders, with the settings that differ between them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from audiozen_core.errors import RunError
from audiozen_core.experiment.config_diff import PLACES, settings_of
from audiozen_core.experiment.run_records import main_record
from audiozen_core.runs.find_runs import RUN_FILES, find_runs
from audiozen_core.runs.summary import RunState, RunSummary, read_run

RunOrder = Literal["name", "best", "time", "written"]
ORDERS: tuple[RunOrder, ...] = get_args(RunOrder)


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run in a list.

    Attributes:
        name: the path of the run relative to the searched folder, or the whole path if several folders were searched.
        run: the state and the results of the run.
        settings: the values of the settings that differ between the listed runs, as TOML text by key. Settings that
            the configuration of this run lacks are missing.
    """

    name: str
    run: RunSummary
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RunList:
    """The runs in some folders.

    Attributes:
        runs: the runs.
        varying_keys: the keys of the settings that differ between the runs, in the order of the configurations.
        warnings: the folders and runs that could not be read, with the reasons.
    """

    runs: Sequence[ListedRun]
    varying_keys: Sequence[str]
    warnings: Sequence[str]


def list_runs(
    folders: Sequence[Path], *, order: RunOrder = "name", states: Collection[RunState] = (), cache: ConfigCache
) -> RunList:
    """Lists the runs in some folders.

    Args:
        folders: the folders to search. Each may be a run folder itself.
        order: `name`; `best`, the best score first; `time`, the longest training time first; `written`, the most
            recently written run first.
        states: only list runs in these states; empty for all runs.
        cache: a cache of the configurations.

    Raises:
        RunError: a folder does not exist, or the folders contain no runs.
    """
    warnings: list[str] = []
    name_of_path: dict[Path, str] = {}
    for folder in folders:
        if not folder.is_dir():
            raise RunError(
                f"`{folder}` is not a folder", remedy="give a folder that contains runs, such as `exp`, or a run folder"
            )
        for path in find_runs(folder, warnings):
            is_below = len(folders) == 1 and path != folder
            name_of_path.setdefault(path, str(path.relative_to(folder)) if is_below else str(path))
    if not name_of_path:
        raise RunError(
            f"no runs in {', '.join(f'`{folder}`' for folder in folders)}",
            notes=[f"can't be read: {warning}" for warning in warnings],
            remedy="give a folder that contains runs, such as `exp`; a run folder contains one of "
            f"{', '.join(RUN_FILES)}",
        )
    chosen: list[tuple[str, RunSummary, Mapping[str, str]]] = []
    for path, name in name_of_path.items():
        try:
            run = read_run(path)
        except OSError as error:
            warnings.append(f"{path}: {error.strerror}")
            continue
        if not states or run.state in states:
            chosen.append((name, run, cache.settings(run)))
    varying_keys = _differing([settings for _, _, settings in chosen])
    runs = [
        ListedRun(name, run, {key: settings[key] for key in varying_keys if key in settings})
        for name, run, settings in chosen
    ]
    return RunList(_sorted(runs, order), varying_keys, warnings)


class ConfigCache:
    """A cache of the configurations of runs. Config files in run folders never change, so each is only read once."""

    def __init__(self) -> None:
        self._read: dict[Path, Mapping[str, str]] = {}

    def settings(self, run: RunSummary) -> Mapping[str, str]:
        """Returns the settings of the newest start that trained, or else of the newest start; {} if unreadable."""
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
    """Returns the keys whose values differ between the runs. Runs with unknown settings are ignored."""
    readable = [values for values in settings if values]
    keys = dict.fromkeys(key for values in readable for key in values)
    return [key for key in keys if len({values.get(key) for values in readable}) > 1]


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
