"""Writes every recorded scalar to `metrics.jsonl`, one line of JSON for each step or epoch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from audiozen_core.errors import RunError
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.hooks.progress import Progress
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.kinds import Mode
from audiozen_core.storage.append import LineFile
from audiozen_core.storage.atomic import write_whole


class MetricsJsonl:
    """Appends one line for each record, such as `{"time": …, "epoch": 3, "step": 120, "train/loss": 0.4}`.

    If a validation, test or prediction runs without training, its record has the epoch and the step of the weights that
    it uses, and the name of their checkpoint as `checkpoint`. A number that is not finite is written as null, because
    JSON has no such numbers.

    A resumed run first removes the records of the steps that it will repeat. It keeps the records of evaluations that
    ran without training, because it does not repeat them. With each checkpoint, the records so far are synchronised to
    the disk. If the disk is full, the run continues, and the records are kept in memory until there is space.
    """

    default = True
    main_process_only = True
    affects_training = False
    stays_in_folder = True
    phase = "persist"

    def __init__(self) -> None:
        self._file: LineFile | None = None
        self._failing = False

    @hookimpl.on_run_start
    def on_run_start(self, trainer: Trainer, mode: Mode) -> None:
        """Opens the file."""
        path = trainer.folder / "metrics.jsonl"
        self._failing = False
        # Opening a named pipe would block forever.
        if path.exists() and not path.is_file():
            raise RunError(f"`{path}` is not a regular file, so metrics can't be written to it", remedy="move it away")
        if mode == "train" and path.exists():
            _remove_repeated(path, trainer.progress)
        self._file = LineFile(path)

    @hookimpl.on_rollback
    def on_rollback(self, trainer: Trainer) -> None:
        """Removes the records of steps that will be repeated. If the disk is full, they stay in the file."""
        if self._file is None:
            return
        failure = self._file.sync()
        try:
            if failure is None:
                _remove_repeated(self._file.path, trainer.progress)
                self._file.close()
                self._file = LineFile(self._file.path)
        except OSError as error:
            failure = error
        self._report(trainer, failure)

    @hookimpl.on_log
    def on_log(self, trainer: Trainer, metrics: Mapping[str, float], step: int, epoch: int) -> None:
        """Writes a line."""
        if self._file is None:
            return
        values: dict[str, Any] = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        if trainer.checkpoint_name:
            values = {"checkpoint": trainer.checkpoint_name, **values}
        time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        self._report(trainer, self._file.write(json.dumps({"time": time, "epoch": epoch, "step": step, **values})))

    @hookimpl.on_checkpoint_save
    def on_checkpoint_save(self, trainer: Trainer, extra: dict[str, Any]) -> None:
        """Synchronises the file to the disk, so that the records survive a power failure, like the checkpoint."""
        if self._file is not None:
            self._report(trainer, self._file.sync())

    @hookimpl.on_teardown
    def on_teardown(self, trainer: Trainer) -> None:
        """Closes the file."""
        file, self._file = self._file, None
        if file is not None and (lost := file.close()):
            trainer.log.error("some records could not be written", file=str(file.path), bytes_lost=lost)

    def _report(self, trainer: Trainer, failure: OSError | None) -> None:
        """Logs once that the file can't be written, and once that it can be written again."""
        if failure and not self._failing:
            trainer.log.warning("metrics.jsonl can't be written; its records are kept in memory", reason=str(failure))
        elif self._failing and not failure:
            trainer.log.info("metrics.jsonl can be written again; all its records are complete")
        self._failing = failure is not None


def _remove_repeated(path: Path, progress: Progress) -> None:
    """Removes the records of the steps that the run will repeat."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(
            f"`{path}` can't be read: {error.strerror}", remedy="check its permissions, or move it away"
        ) from error
    lines = content.decode(errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if _stays(line, progress)]
    if len(kept) < len(lines):
        write_whole(path, "".join(kept).encode())


def _stays(line: str, progress: Progress) -> bool:
    """Returns whether to keep a record. A record that the run will write again, or that is incomplete, is removed."""
    try:
        record = json.loads(line)
        if "checkpoint" in record:  # a validation or a test of a checkpoint
            return True
        names = record.keys() - {"time", "step", "epoch"}
        return not progress.repeats(names, step=record["step"], epoch=record["epoch"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
