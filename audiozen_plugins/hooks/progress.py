"""Shows the progress of a run: bars on a terminal, log lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from audiozen_core.hooks.specs import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.kinds import Mode

# The least time between two redraws of a bar. Redrawing after every step would slow down training.
REFRESH_SECONDS = 0.2

_NOUNS = {"validate": "validation", "predict": "prediction"}
_DONE = {"validate": "validated", "test": "tested"}


class ProgressBar:
    """Shows epoch, step, loss, gradient norm, learning rate and the time left.

    On a terminal it draws bars. Elsewhere it logs one line for each epoch, and in long epochs one every half minute.

    Args:
        bars: whether to draw bars. By default, bars are drawn if standard error is a terminal.
        line_seconds: the time between two log lines within an epoch, without bars.
    """

    default = True
    main_process_only = True
    affects_training = False

    def __init__(self, bars: bool | None = None, line_seconds: float = 30.0) -> None:
        self.console = Console(stderr=True)
        self.drawn = self.console.is_terminal if bars is None else bars
        self.line_seconds = line_seconds
        self._bars: Bars | None = None
        self._task: TaskID | None = None
        self._epochs: TaskID | None = None
        self._shown = 0.0
        self._began = 0.0
        self._done_before = 0
        self._training = False
        self._seen = 0
        self._total: int | None = None

    @hookimpl.on_run_start
    def on_run_start(self, trainer: Trainer, mode: Mode) -> None:
        """Starts the clock, and the bars."""
        self._began = self._shown = time.monotonic()
        self._done_before = trainer.progress.epoch
        self._training = mode == "train"
        if not self.drawn:
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._bars = Bars(*columns, console=self.console, transient=True)
        self._bars.start()
        if mode == "train":
            total = trainer.max_epochs
            self._epochs = self._bars.add_task("epochs", total=total, completed=trainer.progress.epoch, note="")

    @hookimpl.on_epoch_start
    def on_epoch_start(self, trainer: Trainer, epoch: int) -> None:
        """Adds a bar for the epoch."""
        self._new_task(f"epoch {epoch}", trainer.num_batches, trainer.progress.batch)

    @hookimpl.on_training_step_end
    def on_training_step_end(self, trainer: Trainer, batch_idx: int) -> None:
        """Moves the bar, or logs a line, if enough time has passed."""
        now = time.monotonic()
        if self._bars is not None and self._task is not None:
            if now - self._shown >= REFRESH_SECONDS:
                self._shown = now
                self._bars.update(self._task, completed=batch_idx + 1, note=self._note(trainer))
        elif now - self._shown >= self.line_seconds:
            self._shown = now
            of = f"/{trainer.num_batches}" if trainer.num_batches else ""
            trainer.log.info(f"epoch {trainer.progress.epoch + 1}, batch {batch_idx + 1}{of}: {self._note(trainer)}")

    @hookimpl.on_evaluation_start
    def on_evaluation_start(self, mode: Mode, num_batches: int | None) -> None:
        """Adds a bar for the evaluation."""
        self._seen, self._total = 0, num_batches
        self._new_task(_NOUNS.get(mode, mode), num_batches, 0)

    @hookimpl.on_evaluation_step_end
    def on_evaluation_step_end(self, trainer: Trainer, mode: Mode) -> None:
        """Moves the bar by one."""
        self._seen += 1
        if self._bars is not None and self._task is not None:
            self._bars.advance(self._task)
        elif time.monotonic() - self._shown >= self.line_seconds:
            self._shown = time.monotonic()
            of = f"/{self._total}" if self._total else ""
            trainer.log.info(f"{_NOUNS.get(mode, mode)}: batch {self._seen}{of}")

    @hookimpl.on_evaluation_end
    def on_evaluation_end(self, trainer: Trainer, mode: Mode, metrics: Mapping[str, float]) -> None:
        """Logs the result of a validation or a test that runs alone."""
        self._drop_task()
        if metrics and not self._training:
            trainer.log.info(_DONE.get(mode, mode), **_rounded(metrics))

    @hookimpl.on_validation_end
    def on_validation_end(self, trainer: Trainer, epoch: int, metrics: Mapping[str, float]) -> None:
        """Logs the result of a validation within an epoch. `on_epoch_end` logs that of one at its end."""
        if not trainer.progress.batch:
            return
        self._new_task(f"epoch {epoch}", trainer.num_batches, trainer.progress.batch)
        best = {"best": True} if trainer.progress.is_best else {}
        trainer.log.info(f"validated after step {trainer.progress.step}, in epoch {epoch}", **_rounded(metrics), **best)

    @hookimpl.on_epoch_end
    def on_epoch_end(self, trainer: Trainer, epoch: int, metrics: Mapping[str, float]) -> None:
        """Logs one line for the epoch."""
        self._drop_task()
        if self._bars is not None and self._epochs is not None:
            self._bars.update(self._epochs, completed=epoch)
        left = self._seconds_left(trainer, epoch)
        shown = {name: value for name, value in metrics.items() if not name.startswith("train/lr")}
        rates = {name.removeprefix("train/"): value for name, value in metrics.items() if name not in shown}
        best = {"best": True} if trainer.progress.is_best else {}
        trainer.log.info(f"epoch {epoch}/{trainer.max_epochs}", **_rounded(shown), **_compact(rates), **best, left=left)

    @hookimpl.on_teardown
    def on_teardown(self) -> None:
        """Removes the bars."""
        if self._bars is not None:
            self._bars.stop()
        self._bars = self._task = self._epochs = None

    def _new_task(self, name: str, total: int | None, completed: int) -> None:
        self._drop_task()
        if self._bars is not None:
            self._task = self._bars.add_task(name, total=total, completed=completed, note="")

    def _drop_task(self) -> None:
        if self._bars is not None and self._task is not None:
            self._bars.remove_task(self._task)
        self._task = None

    def _seconds_left(self, trainer: Trainer, epoch: int) -> str:
        each = (time.monotonic() - self._began) / max(1, epoch - self._done_before)
        minutes, seconds = divmod(round(each * (trainer.max_epochs - epoch)), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}"

    def _note(self, trainer: Trainer) -> str:
        parts = [f"step {trainer.progress.step}"]
        parts += [f"{name} {value:.4g}" for name, value in trainer.scalars.last.items()]
        rates = {name: float(rate) for name, rate in trainer.scalars.rates.items()}
        parts += [f"{name} {rate}" for name, rate in _compact(rates).items()]
        return "  ".join(parts)


def _compact(rates: Mapping[str, float]) -> dict[str, float | str]:
    """Shows several rates as one: `lr=0.001` if all are the same, and `lr=0.001/0.0001` otherwise."""
    rounded = list(_rounded(rates).values())
    if len(set(rounded)) < 2:
        return {"lr": rounded[0]} if rounded else {}
    return {"lr": "/".join(map(str, rounded))}


def _rounded(scalars: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.4g}") if math.isfinite(value) else value for name, value in scalars.items()}
