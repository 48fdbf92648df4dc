"""Finds the records of a run, `config__….toml`, and the record of its training. This module does not import torch."""

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
    """Returns the newest record of a training, or else the newest record of any mode; None if there is no record.

    The record of a training is preferred, because a later test may have had other settings, machines and versions.
    """
    return training_record(folder) or max(folder.glob(RECORDS), default=None)
