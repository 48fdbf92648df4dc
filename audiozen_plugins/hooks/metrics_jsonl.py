"""Every recorded scalar as a JSON line in `metrics.jsonl`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from audiozen_core.errors import RunError
from audiozen_core.hooks.progress import Progress
from audiozen_core.hooks.specs import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.kinds import Mode
from audiozen_core.storage.append import LineFile
from audiozen_core.storage.atomic import write_whole


class MetricsJsonl:
    """Appends one line for each record, such as `{"time": …, "epoch": 3, "step": 120, "train/loss": 0.4}`.

    A number that is not finite is written as null, because JSON cannot express it. A resumed run first drops the
    records that it will make again. With each checkpoint the records so far are synchronised to the disk. If the disk
    is full, the run continues, and the records wait in memory.
    """

    default = True
    affects_training = False
    phase = "persist"

    def __init__(self) -> None:
        self._file: LineFile | None = None
        self._refused = False

    @hookimpl
    def on_run_start(self, trainer: Trainer, mode: Mode) -> None:
        """Opens the file."""
        path = trainer.folder / "metrics.jsonl"
        self._refused = False
        # Opening a pipe would wait without limit.
        if path.exists() and not path.is_file():
            raise RunError(f"`{path}` is not a regular file, so metrics can't be written to it", remedy="move it away")
        if mode == "train" and path.exists():
            _drop(path, trainer.progress)
        self._file = LineFile(path)

    @hookimpl
    def on_rollback(self, trainer: Trainer) -> None:
        """Drops the records that will be made again. If the disk is full they stay, and will be there twice."""
        if self._file is None:
            return
        refused = self._file.sync()
        try:
            if refused is None:
                _drop(self._file.path, trainer.progress)
                self._file.close()
                self._file = LineFile(self._file.path)
        except OSError as error:
            refused = error
        self._report(trainer, refused)

    @hookimpl
    def on_log(self, trainer: Trainer, metrics: Mapping[str, float], step: int, epoch: int) -> None:
        """Writes a line."""
        if self._file is None:
            return
        values = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        self._report(trainer, self._file.write(json.dumps({"time": time, "epoch": epoch, "step": step, **values})))

    @hookimpl
    def on_checkpoint_save(self, trainer: Trainer, extra: dict[str, Any]) -> None:
        """Synchronises the file, so that its records survive a power cut as the checkpoint does."""
        if self._file is not None:
            self._report(trainer, self._file.sync())

    @hookimpl
    def on_teardown(self, trainer: Trainer) -> None:
        """Closes the file."""
        file, self._file = self._file, None
        if file is not None and (lost := file.close()):
            trainer.log.error("not all records could be written", file=str(file.path), bytes_lost=lost)

    def _report(self, trainer: Trainer, refused: OSError | None) -> None:
        """Logs once that the file can't be written, and once that it can be written again."""
        if refused and not self._refused:
            trainer.log.warning("metrics.jsonl can't be written; the records wait in memory", reason=str(refused))
        elif self._refused and not refused:
            trainer.log.info("metrics.jsonl can be written again; no record is lost")
        self._refused = refused is not None


def _drop(path: Path, progress: Progress) -> None:
    """Removes the records that will be made again."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(
            f"`{path}` can't be read: {error.strerror}", remedy="check its permissions, or move it away"
        ) from error
    lines = content.decode(errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if _is_before(line, progress)]
    if len(kept) < len(lines):
        write_whole(path, "".join(kept).encode())


def _is_before(line: str, progress: Progress) -> bool:
    """Whether the record was made before this point of the training. Half a line, from a killed run, was not."""
    try:
        record = json.loads(line)
        if record["step"] != progress.step or record["epoch"] <= progress.epoch:
            return bool(record["step"] <= progress.step)
        # A record of this step itself is kept; one of the end of the epoch has the same step, but will be made again.
        return all(name.startswith("step/") for name in record.keys() - {"time", "step", "epoch"})
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
