"""Records a start of a run in the run's folder: at its beginning, after each mode, and at its end."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import torch

from audiozen_core.distributed.ranks import Ranks
from audiozen_core.experiment.session_file import ModeRecord, SessionRecord, session_file, write_session
from audiozen_core.hooks.ending import RunEnding
from audiozen_core.kinds import RunMode
from audiozen_core.logging import get_logger
from audiozen_core.results.files import finite_or_none
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.memory import peak_memory, peak_process_memory


class Session:
    """One start of a run. It does not store the trainer, so that the memory of the trainer is free for the next mode.

    Args:
        path: the file of the session.
        record: the initial content of the file.
        device: the device whose memory is measured.
    """

    def __init__(self, path: Path, record: SessionRecord, device: torch.device) -> None:
        self._path, self._record, self._device = path, record, device
        self._began = time.monotonic()
        write_session(path, record)

    @contextmanager
    def running(self, mode: RunMode, trainer: BaseTrainer) -> Iterator[None]:
        """Records how a mode ends. The mode must run within the block."""
        began = time.monotonic()
        try:
            yield
        except BaseException as error:
            self._note(mode, trainer, began, RunEnding.of_error(error))
            raise
        self._note(mode, trainer, began, trainer.ending)

    def _note(self, mode: RunMode, trainer: BaseTrainer, began: float, ending: RunEnding) -> None:
        progress = trainer.progress
        done = ModeRecord(
            mode=mode,
            seconds=round(time.monotonic() - began, 3),
            ending=ending.kind,
            reason=ending.reason,
            epoch=progress.current_epoch,
            step=progress.step,
            best_score=progress.best_score,
            best_epoch=progress.best_epoch,
            scalars={name: finite_or_none(value) for name, value in trainer.last_scalars.items()},
            folder=os.path.relpath(trainer.results_folder, self._path.parent) if trainer.results_folder else "",
        )
        self._update(replace(self._record, done=(*self._record.done, done)))

    def end(self, ending: RunEnding) -> None:
        """Records the end of the session."""
        gpu = peak_memory(self._device) if self._device.type == "cuda" else None
        self._update(
            replace(
                self._record,
                ended=datetime.now().astimezone().isoformat(timespec="milliseconds"),
                seconds=round(time.monotonic() - self._began, 3),
                ending=ending.kind,
                reason=ending.reason,
                peak_memory=peak_process_memory(),
                peak_gpu_memory=gpu,
            )
        )

    def _update(self, record: SessionRecord) -> None:
        """Rewrites the file. If that fails, logs only a warning, so that the run continues and its errors are
        visible.
        """
        self._record = record
        try:
            write_session(self._path, record)
        except OSError as error:
            get_logger().warning("the end of the run can't be recorded", file=str(self._path), reason=str(error))


@contextmanager
def recorded_session(
    trainer: BaseTrainer, modes: Sequence[RunMode], ranks: Ranks, now: datetime, config: Path
) -> Iterator[Session]:
    """Records a session on rank 0. The session lasts as long as the block.

    Args:
        trainer: the trainer of the first mode.
        modes: the requested modes.
        ranks: the processes of the run.
        now: when the session starts, with its time zone.
        config: the file with the configuration, in the run's folder.

    Raises:
        OSError: the file can't be written at the start of the session.
    """
    device = trainer.device
    is_gpu = device.type == "cuda"
    if is_gpu:
        torch.cuda.reset_peak_memory_stats(device)  # an earlier run in this process may have needed more memory
    record = SessionRecord(
        started=now.isoformat(timespec="milliseconds"),
        host=socket.gethostname(),
        pid=os.getpid(),
        job=os.environ.get("SLURM_JOB_ID", ""),
        processes=ranks.size,
        device=str(device),
        device_name=torch.cuda.get_device_name(device) if is_gpu else "",
        modes=tuple(modes),
        record=config.name,
        max_epochs=trainer.max_epochs,
        monitor=trainer.monitor,
        higher_is_better=trainer.save_max_score,
    )
    session = Session(session_file(config.parent, now, os.getpid()), record, device)
    try:
        yield session
    except BaseException as error:
        session.end(RunEnding.of_error(error))
        raise
    # The ending of each mode is recorded separately, because the ending of the last mode, such as a test, says nothing
    # about training.
    session.end(RunEnding())
