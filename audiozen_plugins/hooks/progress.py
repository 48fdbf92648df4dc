"""Shows the progress of a run: a table and a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from audiozen_core.hooks.marker import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.kinds import Mode
from audiozen_core.logging import shown_as
from audiozen_plugins.hooks.epoch_table import EpochRow, EpochTable

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

# The shortest time between two redraws of a bar. A redraw takes over a millisecond of CPU time.
REFRESH_SECONDS = 0.5

_NOUNS = {"validate": "validation", "predict": "prediction"}
_DONE = {"validate": "validated", "test": "tested"}


class ProgressBar:
    """Shows epoch, step, loss, gradient norm, learning rate and the time left.

    On a terminal, this hook draws a table and a bar below it. The table has a row for each epoch, and for each
    validation within an epoch. If there is no terminal, the hook logs a line for each epoch, and in long epochs also a
    line every half minute. The log file always has these lines.

    Args:
        bars: whether to draw the table and the bar. By default, they are drawn if standard error is a terminal.
        line_seconds: the time between two log lines within an epoch, if no bar is drawn.
    """

    default = True
    main_process_only = True
    affects_training = False

    def __init__(self, bars: bool | None = None, line_seconds: float = 30.0) -> None:
        from rich.console import Console

        self.console = Console(stderr=True)
        self.drawn = self.console.is_terminal if bars is None else bars
        self.line_seconds = line_seconds
        self._table: EpochTable | None = None
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._shown = 0.0
        self._began = self._epoch_began = 0.0
        self._done_before = 0
        self._training = False
        self._seen = 0
        self._total: int | None = None

    @hookimpl.on_run_start
    def on_run_start(self, trainer: Trainer, mode: Mode) -> None:
        """Starts the clock, the table and the bar."""
        self._began = self._epoch_began = self._shown = time.monotonic()
        self._done_before = trainer.progress.epoch
        self._training = mode == "train"
        if not self.drawn:
            return
        has_colours = self.console.color_system is not None and not self.console.no_color
        within_epochs = trainer.validation_interval_steps or trainer.validation_interval_minutes
        self._table = EpochTable(
            colours=has_colours,
            unicode=self.console.encoding.lower().startswith("utf"),
            longest_name=len("step 100000") if within_epochs else 2 * len(str(trainer.max_epochs)) + 1,
        )
        if self.console.is_dumb_terminal:  # a dumb terminal can't redraw a bar
            return
        from rich import progress
        from rich.table import Column

        columns = (
            progress.TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            progress.BarColumn(bar_width=20),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True)),
        )
        self._bar = progress.Progress(
            *columns, console=self.console, transient=True, refresh_per_second=1 / REFRESH_SECONDS
        )
        self._bar.start()

    @hookimpl.on_epoch_start
    def on_epoch_start(self, trainer: Trainer, epoch: int) -> None:
        """Starts the bar of the epoch."""
        self._epoch_began = time.monotonic()
        self._new_task(f"epoch {epoch}/{trainer.max_epochs}", trainer.num_batches, trainer.progress.batch)

    @hookimpl.on_training_step_end
    def on_training_step_end(self, trainer: Trainer, batch_idx: int) -> None:
        """Moves the bar or logs a line if enough time has passed since the last time."""
        now = time.monotonic()
        if self._bar is not None and self._task is not None:
            if now - self._shown >= REFRESH_SECONDS:
                self._shown = now
                self._bar.update(self._task, completed=batch_idx + 1, note=self._note(trainer, self._room(trainer)))
        elif now - self._shown >= self.line_seconds:
            self._shown = now
            total = f"/{trainer.num_batches}" if trainer.num_batches else ""
            trainer.log.info(f"epoch {trainer.progress.epoch + 1}, batch {batch_idx + 1}{total}: {self._note(trainer)}")

    @hookimpl.on_evaluation_start
    def on_evaluation_start(self, mode: Mode, num_batches: int | None) -> None:
        """Starts the bar of the evaluation."""
        self._seen, self._total = 0, num_batches
        self._new_task(_NOUNS.get(mode, mode), num_batches, 0)

    @hookimpl.on_evaluation_step_end
    def on_evaluation_step_end(self, trainer: Trainer, mode: Mode) -> None:
        """Moves the bar by one batch."""
        self._seen += 1
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task)
        elif time.monotonic() - self._shown >= self.line_seconds:
            self._shown = time.monotonic()
            total = f"/{self._total}" if self._total else ""
            trainer.log.info(f"{_NOUNS.get(mode, mode)}: batch {self._seen}{total}")

    @hookimpl.on_evaluation_end
    def on_evaluation_end(self, trainer: Trainer, mode: Mode, metrics: Mapping[str, float]) -> None:
        """Logs the result of a validation or a test that runs without training."""
        if metrics and not self._training:
            trainer.log.info(_DONE.get(mode, mode), **_rounded(metrics))

    @hookimpl.on_validation_end
    def on_validation_end(self, trainer: Trainer, epoch: int, metrics: Mapping[str, float]) -> None:
        """Logs the result of a validation within an epoch. `on_epoch_end` logs a validation at the end of an epoch."""
        if not trainer.progress.batch:
            return
        self._new_task(f"epoch {epoch}/{trainer.max_epochs}", trainer.num_batches, trainer.progress.batch)
        best = {"best": True} if trainer.progress.is_best else {}
        rates = {name: float(rate) for name, rate in trainer.scalars.rates.items()}
        with self._row(trainer, f"step {trainer.progress.step}", metrics, rates, None, None):
            step = trainer.progress.step
            trainer.log.info(f"validated after step {step}, in epoch {epoch}", **_rounded(metrics), **best)

    @hookimpl.on_epoch_end
    def on_epoch_end(self, trainer: Trainer, epoch: int, metrics: Mapping[str, float]) -> None:
        """Logs one line for the epoch."""
        now = time.monotonic()
        left = (now - self._began) / max(1, epoch - self._done_before) * (trainer.max_epochs - epoch)
        rates = {name.removeprefix("train/"): value for name, value in metrics.items() if name.startswith("train/lr")}
        shown = {
            name: value for name, value in metrics.items() if not name.startswith("train/lr") and not _is_detail(name)
        }
        best = {"best": True} if trainer.progress.is_best else {}
        name = f"{epoch}/{trainer.max_epochs}"
        fields = {**_rounded(shown), **_compact(rates), **best, "left": _clock(left)}
        with self._row(trainer, name, shown, rates, now - self._epoch_began, left):
            trainer.log.info(f"epoch {name}", **fields)

    @hookimpl.on_teardown
    def on_teardown(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = self._table = None

    def _new_task(self, name: str, total: int | None, completed: int) -> None:
        """Shows another task in the same bar, because a new bar would flicker."""
        if self._bar is None:
            return
        if self._task is None:
            self._task = self._bar.add_task(name, total=total, completed=completed, note="")
        else:
            self._bar.reset(self._task, description=name, total=total, completed=completed, note="")

    def _row(
        self,
        trainer: Trainer,
        name: str,
        metrics: Mapping[str, float],
        rates: Mapping[str, float],
        seconds: float | None,
        left: float | None,
    ) -> AbstractContextManager[None]:
        """Shows a row of the table in place of the line that is logged in this `with` block."""
        if self._table is None:
            return nullcontext()
        rate = str(_compact(rates).get("lr", ""))
        row = EpochRow(name, metrics, rate, trainer.progress.is_best, seconds, left)
        return shown_as("\n".join(self._table.lines(row, self.console.width)))

    def _room(self, trainer: Trainer) -> int:
        """Returns how many characters fit on the line next to the bar, its counters and its times."""
        return (
            self.console.width
            - 48
            - len(f"epoch {trainer.max_epochs}/{trainer.max_epochs}")
            - 2 * len(str(trainer.num_batches or "?"))
        )

    def _note(self, trainer: Trainer, room: int | None = None) -> str:
        """Returns the scalars of the newest step as text; at most `room` characters."""
        parts = [f"{name} {value:.4g}" for name, value in trainer.scalars.last.items()]
        rates = {name: float(rate) for name, rate in trainer.scalars.rates.items()}
        parts += [f"{name} {rate}" for name, rate in _compact(rates).items()]
        if room is None:
            return "  ".join([f"step {trainer.progress.step}", *parts])
        while parts and len("  ".join(parts)) > room:
            parts.pop()
        return "  ".join(parts)


def _is_detail(name: str) -> bool:
    """Returns whether a scalar is the time of a part of a step. The line has no space for these times."""
    scalar = name.removeprefix("train/")
    return scalar.startswith(("seconds_", "gpu_seconds_")) and scalar not in ("seconds_data", "seconds_compute")


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def _compact(rates: Mapping[str, float]) -> dict[str, float | str]:
    """Shows several rates as one: `lr=0.001` if all are the same, and `lr=0.001/0.0001` otherwise."""
    rounded = list(_rounded(rates).values())
    if len(set(rounded)) < 2:
        return {"lr": rounded[0]} if rounded else {}
    return {"lr": "/".join(map(str, rounded))}


def _rounded(scalars: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.4g}") if math.isfinite(value) else value for name, value in scalars.items()}
