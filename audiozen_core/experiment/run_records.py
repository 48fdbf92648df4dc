"""The records of a run, `config__….toml`: which there are, and which one says how the run was trained. No torch."""

from __future__ import annotations

from pathlib import Path

from audiozen_core.config.used_plugins import RECORDS, header
from audiozen_core.kinds import TRAINING


def training_records(folder: Path) -> list[Path]:
    """Returns the records of trainings in a run's folder, the newest first."""
    records = sorted(folder.glob(RECORDS), reverse=True)
    return [file for file in records if {*TRAINING} & {*header(file, "modes").split()}]


def training_record(folder: Path) -> Path | None:
    """Returns the newest record of a training in a run's folder; None if there is none."""
    return next(iter(training_records(folder)), None)


def main_record(folder: Path) -> Path | None:
    """Returns the newest record of a training, or else the newest one of anything; None without a record.

    A test later than the training may have had other settings, another machine and other versions.
    """
    return training_record(folder) or max(folder.glob(RECORDS), default=None)
