"""Compares the configurations of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from audiozen_core.config.used_plugins import RECORDS
from audiozen_core.diagnostics.listed import listed
from audiozen_core.experiment.config_diff import PLACES, compare_configs
from audiozen_core.experiment.run_records import main_record
from audiozen_core.results.compared import SettingRow

_SEED = "meta.seed"


def find_run(path: Path) -> Path | None:
    """Returns the run folder that contains a path; None if the path is not in a run folder."""
    path = path.absolute()
    return next((folder for folder in (path, *path.parents) if any(folder.glob(RECORDS))), None)


def main_config(run: Path) -> str | None:
    """Returns the effective config of the newest start in a run folder that trained, or else of the newest start.

    The result is None if the folder has no config.
    """
    record = main_record(run)
    return record.read_text(encoding="utf-8") if record else None


def compare_settings(configs: Mapping[str, Sequence[str | None]]) -> tuple[list[SettingRow], list[str]]:
    """Compares the configurations of the runs of several systems.

    Args:
        configs: by the name of the system, the configuration of each of its runs; None for a run without a
            configuration.

    Returns:
        A row for each setting that differs between the first runs of the systems; and a warning for each system whose
        runs differ in more than the seed.
    """
    firsts = {name: runs[0] for name, runs in configs.items() if runs and runs[0] is not None}
    notes = []
    for name, runs in configs.items():
        first = firsts.get(name)
        keys = dict.fromkeys(
            key for other in runs[1:] if first and other for key in _changes(first, other) if key != _SEED
        )
        if keys:
            notes.append(f"warning: the runs of {name} differ in more than their seeds: {listed(keys)}")
    several = {name for name, runs in configs.items() if len(runs) > 1}
    base_name = next(iter(firsts), None)
    if base_name is None:
        return [], notes
    rows: dict[str, dict[str, str]] = {}
    for name, config in firsts.items():
        if name == base_name or config is None or firsts[base_name] is None:
            continue
        for key, (before, now) in _changes(firsts[base_name] or "", config).items():
            if key == _SEED and several & {name, base_name}:
                continue
            rows.setdefault(key, {base_name: before})[name] = now
    for values in rows.values():  # a system without a change has the value of the first system
        values.update({name: values[base_name] for name in firsts if name not in values})
    return [SettingRow(key, values) for key, values in rows.items()], notes


def _changes(before: str, now: str) -> dict[str, tuple[str, str]]:
    changes = compare_configs(before, now, lambda section, path: None)
    return {change.key: (change.before, change.now) for change in changes if change.key not in PLACES}
