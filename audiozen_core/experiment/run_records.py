"""Finds the records of a run, `config__….toml`, such as its latest training record. Does not import torch."""

from __future__ import annotations

from pathlib import Path

from audiozen_core.config.used_plugins import RECORDS, used_plugins_header
from audiozen_core.kinds import TRAINING


def training_records(folder: Path) -> list[Path]:
    """Returns the records in a run folder that were written for training, newest first."""
    records = sorted(folder.glob(RECORDS), reverse=True)
    return [file for file in records if {*TRAINING} & {*used_plugins_header(file, "modes").split()}]


def training_record(folder: Path) -> Path | None:
    """Returns the newest record in a run folder that was written for training; None if no record was."""
    return next(iter(training_records(folder)), None)


def main_record(folder: Path) -> Path | None:
    """Returns the newest record that was written for training, or else the newest record; None without a record.

    Records of training are preferred, because a later test may have used other settings, machines and versions.
    """
    return training_record(folder) or max(folder.glob(RECORDS), default=None)
