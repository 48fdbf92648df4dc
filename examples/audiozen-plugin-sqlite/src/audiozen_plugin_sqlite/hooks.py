"""A hook that writes all runs into one SQLite file."""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from audiozen import hookimpl
from audiozen.files import make_folder

from audiozen_plugin_sqlite.database import Change, Database

if TYPE_CHECKING:
    from audiozen.hooks import Mode, RunEnding, Trainer


class Sqlite:
    """Writes runs, their configs and all recorded scalars into one SQLite file, even for several runs at once.

    Each record is a transaction, so a crash loses nothing that was written. A run waits a moment while another run
    writes. A resumed run first removes the records of the steps that it will repeat, as the hook `metrics_jsonl` does.
    If the disk is full, training continues, and the records are kept in memory until there is space.

    Args:
        file: the path of the file; by default `runs.sqlite` in the folder that contains the runs.
        timeout: how many seconds a run waits while other processes write, before it continues without writing.

    Raises:
        AudioZenError: the file can't be opened, or belongs to another program or version.
    """

    affects_training = False
    main_process_only = True
    phase = "persist"

    def __init__(self, file: str | None = None, timeout: float = 5.0) -> None:
        self.file = file
        self.timeout = timeout
        self._database: Database | None = None
        self._folder = ""
        self._training = False
        self._failing = False

    @hookimpl.on_run_start
    def on_run_start(self, trainer: Trainer, mode: Mode) -> None:
        """Opens the file and adds the config, and the run if it is new."""
        path = Path(self.file).expanduser() if self.file else trainer.folder.parent / "runs.sqlite"
        make_folder(path.parent)
        # A folder of runs can be moved together with the file.
        self._folder = os.path.relpath(trainer.folder.resolve(), path.parent.resolve())
        self._training, self._failing = mode == "train", False
        self._database = Database(path, self.timeout)
        changes = [self._add_run(trainer), self._add_config(trainer, mode)]
        if self._training:
            changes += [self._remove_repeated(trainer), self._update(trainer, "running")]
        self._write(trainer, *changes)

    @hookimpl.on_log
    def on_log(self, trainer: Trainer, metrics: Mapping[str, float], step: int, epoch: int) -> None:
        """Adds a record."""
        changes = [self._add_record(metrics, step, epoch, trainer.checkpoint_name)]
        if self._training:
            changes.append(self._update(trainer, "running"))
        self._write(trainer, *changes)

    @hookimpl.on_rollback
    def on_rollback(self, trainer: Trainer) -> None:
        """Removes the records of the steps that will be repeated."""
        self._write(trainer, self._remove_repeated(trainer), self._update(trainer, "running"))

    @hookimpl.on_teardown
    def on_teardown(self, trainer: Trainer, ending: RunEnding) -> None:
        """Writes how the training ended, and closes the file."""
        if self._training:
            self._write(trainer, self._update(trainer, ending.kind, ending.reason))
        database, self._database = self._database, None
        if database is not None and (lost := database.close()):
            trainer.log.error("some records could not be written", file=str(database.path), changes_lost=lost)

    # ------------------------------------------------------------------------------- changes

    def _write(self, trainer: Trainer, *changes: Change) -> None:
        """Writes changes. Logs once that the file can't be written, and once that it can be written again."""
        if self._database is None:
            return
        failure = self._database.write(*changes)
        file = str(self._database.path)
        if failure and not self._failing:
            reason = str(failure)
            trainer.log.warning("the file can't be written; its records are kept in memory", file=file, reason=reason)
        elif self._failing and not failure:
            trainer.log.info("the file can be written again; all its records are complete", file=file)
        self._failing = failure is not None

    def _add_run(self, trainer: Trainer) -> Change:
        values = {
            "folder": self._folder,
            "experiment": trainer.experiment,
            "seed": trainer.seed,
            "monitor": trainer.monitor,
            "higher_is_better": trainer.save_max_score,
            "epoch": trainer.progress.epoch,
            "step": trainer.progress.step,
            "created": _now(),
            "updated": _now(),
        }
        changing = ("experiment", "seed", "monitor", "higher_is_better")
        conflict = "UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in changing)
        # An evaluation must not change the row of a training run, which may be running now.
        conflict = conflict if self._training else "NOTHING"
        names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
        insert = f"INSERT INTO runs ({names}) VALUES ({marks}) ON CONFLICT (folder) DO {conflict}"
        return lambda database: database.execute(insert, values)

    def _add_config(self, trainer: Trainer, mode: Mode) -> Change:
        values = (_now(), mode, trainer.progress.step, trainer.config_text, self._folder)
        insert = "INSERT INTO configs (run, time, mode, step, toml) SELECT id, ?, ?, ?, ? FROM runs WHERE folder = ?"
        return lambda database: database.execute(insert, values)

    def _add_record(self, metrics: Mapping[str, float], step: int, epoch: int, checkpoint: str) -> Change:
        record = (epoch, step, checkpoint or None, _now(), self._folder)
        scalars = [(name, value if math.isfinite(value) else None) for name, value in metrics.items()]

        def add(database: sqlite3.Connection) -> None:
            insert = "INSERT INTO records (run, epoch, step, checkpoint, time) SELECT id, ?, ?, ?, ? FROM runs"
            identifier = database.execute(f"{insert} WHERE folder = ?", record).lastrowid
            database.executemany(
                "INSERT INTO scalars VALUES (?, ?, ?)", [(identifier, name, value) for name, value in scalars]
            )

        return add

    def _remove_repeated(self, trainer: Trainer) -> Change:
        values = {"folder": self._folder, "epoch": trainer.progress.epoch, "step": trainer.progress.step}
        # The record of this step is kept. The record of the end of the epoch has the same step, but will be repeated.
        delete = """
            DELETE FROM records WHERE run = (SELECT id FROM runs WHERE folder = :folder) AND (
                step > :step
                OR step = :step AND epoch > :epoch
                AND EXISTS (SELECT 1 FROM scalars WHERE record = records.id AND name NOT GLOB 'step/*')
            )"""
        return lambda database: database.execute(delete, values)

    def _update(self, trainer: Trainer, status: str, reason: str | None = None) -> Change:
        progress = trainer.progress
        values = {
            "status": status,
            "reason": reason,
            "epoch": progress.epoch,
            "step": progress.step,
            "best_epoch": progress.best_epoch or None,
            "best_score": progress.best_score,
            "updated": _now(),
        }
        update = f"UPDATE runs SET {', '.join(f'{name} = :{name}' for name in values)} WHERE folder = :folder"
        return lambda database: database.execute(update, {**values, "folder": self._folder})


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
