"""Signals: SIGTERM, SIGINT and SIGHUP stop a run after a checkpoint, SIGUSR1 asks for one."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any, NoReturn

from audiozen_core.errors import Interrupted, RunError
from audiozen_core.hooks.specs import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.kinds import Mode
from audiozen_core.trainer.state import RandomState

_NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")
# A year. What the system's timer can't count is an error only when the signal has come.
_LONGEST_GRACE = 31_536_000
_DONE = "the mode had done its work, and all of it is kept"
_RESUME = "`--resume` goes on from the latest checkpoint, if there is one"


class Signals:
    """Lets a signal find the training at the end of a step.

    SIGTERM, SIGINT (Ctrl-C) and SIGHUP (the terminal is gone): the optimiser step under way is finished, a checkpoint
    is saved, and the run exits with 143, 130 or 129; `--resume` goes on from there. A validation is broken off, and
    made anew on resume. SIGUSR1: a checkpoint is saved after the step, or after the validation, and the run goes on. A
    second SIGINT stops at once, without saving. The other modes have nothing to save, and stop after the batch. After a
    signal that comes when a mode has done its work no other mode follows.

    Where Python is not in its main thread, signals keep the meaning that they have there.

    Args:
        grace_seconds: the run ends, without saving, if it has not done so by itself so many seconds after the signal;
            none for no limit. On a cluster, what it leaves between SIGTERM and SIGKILL, less a little.

    Raises:
        RunError: `grace_seconds` is no number of seconds.
    """

    default = True
    affects_training = False
    phase = "persist"

    def __init__(self, grace_seconds: float | None = None) -> None:
        if grace_seconds is not None and not 0 <= grace_seconds <= _LONGEST_GRACE:
            raise RunError(
                f"the hook `signals` can't be built: `grace_seconds` is {grace_seconds}, but must be from 0 to "
                f"{_LONGEST_GRACE}",
                remedy="set it in its `args`, or leave it out for no limit",
            )
        self.grace_seconds = grace_seconds
        self._stop: int | None = None
        self._interrupts = 0
        self._save = False
        self._training = False
        self._random: dict[str, Any] = {}
        self._before: dict[int, Any] = {}

    @hookimpl
    def on_run_start(self, mode: Mode) -> None:
        """Takes the signals over."""
        if self._stop:  # it came while the mode before was being taken down
            self._interrupt(_DONE)
        self._stop, self._interrupts, self._save, self._training = None, 0, False, mode == "train"
        if threading.current_thread() is not threading.main_thread():
            return
        for name in _NAMES:
            number = getattr(signal, name, None)
            # A run under nohup is to outlive its terminal.
            if number is not None and not (name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN):
                self._before[number] = signal.signal(number, self._receive)

    @hookimpl
    def on_training_step_end(self, trainer: Trainer) -> None:
        """Acts, if a signal has come and no gradients are being accumulated."""
        if (self._stop or self._save) and trainer.between_steps:
            self._act(trainer)

    @hookimpl
    def on_evaluation_start(self) -> None:
        """Remembers the generators, to be able to begin the validation anew."""
        if self._training:
            self._random = RandomState().state_dict()

    @hookimpl
    def on_evaluation_step_end(self, trainer: Trainer, mode: Mode) -> None:
        """Breaks the evaluation off, if the run is to stop."""
        if not self._stop:
            return
        trainer.hooks.on_evaluation_abandoned(trainer=trainer, mode=mode)
        if not self._training:
            self._interrupt("nothing was to be saved")
        trainer.progress.reopen_epoch()
        RandomState().load_state_dict(self._random)
        self._act(trainer)

    @hookimpl
    def on_epoch_end(self, trainer: Trainer) -> None:
        """Acts on a signal that came since the last step."""
        if self._stop or self._save:
            self._act(trainer)

    @hookimpl
    def on_run_end(self) -> None:
        """Keeps a signal that came after the last step from being lost: another mode might follow."""
        if self._stop:
            self._interrupt(_DONE)

    @hookimpl
    def on_exception(self) -> None:
        """The run ends, as was asked for. Not before: an error that is raised in a handler may be lost on its way."""
        self._stop = None

    @hookimpl
    def on_teardown(self) -> None:
        """Gives the signals back."""
        if self._before and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == getattr(signal, "SIGUSR1", None):
            self._save = True
            return
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            if self._interrupts == 2:
                _say(f"stopped at once: nothing has been saved; {_RESUME}")
            raise KeyboardInterrupt
        first, self._stop = self._stop is None, number
        self._acknowledge(number)
        if first and self.grace_seconds is not None and hasattr(signal, "setitimer"):
            self._before.setdefault(signal.SIGALRM, signal.signal(signal.SIGALRM, self._out_of_time))
            signal.setitimer(signal.ITIMER_REAL, max(self.grace_seconds, 1e-6))

    def _acknowledge(self, number: int) -> None:
        """Lets a person know that the signal has been heard: a step may take minutes."""
        what = "the step is finished and a checkpoint saved first" if self._training else "the batch is finished first"
        once_more = "; once more stops at once, without saving" if number == signal.SIGINT else ""
        _say(f"{signal.Signals(number).name}: {what}{once_more}")

    def _out_of_time(self, number: int, frame: FrameType | None) -> None:
        self._interrupt(
            f"the step was not over after `grace_seconds = {self.grace_seconds}`, so nothing has been saved; {_RESUME}",
        )

    def _interrupt(self, note: str) -> NoReturn:
        raise Interrupted(self._stop or signal.SIGTERM, note)

    def _act(self, trainer: Trainer) -> None:
        number = self._stop or signal.SIGUSR1
        self._save = False
        trainer.hooks.on_checkpoint_request(trainer=trainer, reason=signal.Signals(number).name)
        if self._stop:
            self._interrupt(_RESUME)


def _say(line: str) -> None:
    """Writes a line to standard error from within a signal's handler: a stream may be in the midst of a write."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{line}\n".encode())
