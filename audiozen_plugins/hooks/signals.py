"""Signals: SIGTERM, SIGINT and SIGHUP stop a run after a checkpoint, SIGUSR1 asks for a checkpoint."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Annotated, Any, NoReturn

from audiozen_core.binding.ranges import Range, check_ranges
from audiozen_core.distributed.restarts import note_stop
from audiozen_core.errors import Interrupted
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.kinds import Mode
from audiozen_core.trainer.state import RandomState

_NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")
# A year, in seconds. Without this limit, a number that is too large for the timer of the operating system would cause
# an error only when a signal arrives.
_LONGEST_GRACE = 31_536_000
_DONE = "the mode was complete, and everything is saved"
_RESUME = "`--resume` (in Python `resume=True`) continues from the latest checkpoint, if there is one"


class Signals:
    """Handles signals of the operating system at the end of a step, when the state is complete.

    On SIGTERM, SIGINT (Ctrl-C) and SIGHUP (the terminal was closed), the run finishes the optimiser step, saves a
    checkpoint, and exits with the code 143, 130 or 129. `--resume` continues from this checkpoint. A validation is
    interrupted, and repeated after the resume. On SIGUSR1, the run saves a checkpoint after the step or the validation,
    and continues. A second SIGINT stops the run at once, without saving. Modes other than training have nothing to
    save, and stop after the batch. If the signal arrives at the end of a mode, the run ends before the next mode.

    Python can set handlers only in its main thread. In another thread, this hook does nothing.

    Args:
        grace_seconds: the time in seconds in which the run must end after a signal. After this time, it ends without
            saving. None for no limit. On a cluster, set a little less than the time between SIGTERM and SIGKILL.

    Raises:
        RunError: `grace_seconds` is out of range.
    """

    default = True
    affects_training = False
    phase = "persist"

    def __init__(self, grace_seconds: Annotated[float, Range(least=0, most=_LONGEST_GRACE)] | None = None) -> None:
        check_ranges(Signals, locals())
        self.grace_seconds = grace_seconds
        self._stop: int | None = None
        self._interrupts = 0
        self._save = False
        self._training = False
        self._speaks, self._several = True, False
        self._random: dict[str, Any] = {}
        self._before: dict[int, Any] = {}

    @hookimpl.on_run_start
    def on_run_start(self, trainer: Trainer, mode: Mode) -> None:
        """Sets the handlers."""
        self._speaks, self._several = trainer.ranks.is_main, trainer.ranks.several
        self._stop, self._interrupts, self._save, self._training = None, 0, False, mode == "train"
        if threading.current_thread() is not threading.main_thread():
            return
        for name in _NAMES:
            number = getattr(signal, name, None)
            # Under nohup, SIGHUP is ignored, because the run must continue after its terminal is closed.
            if number is not None and not (name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN):
                self._before[number] = signal.signal(number, self._receive)

    @hookimpl.on_training_step_end
    def on_training_step_end(self, trainer: Trainer) -> None:
        """Acts on a signal that has arrived, unless gradients are being accumulated."""
        if (self._stop or self._save or self._several) and trainer.between_steps:
            self._act_if_due(trainer)

    @hookimpl.on_evaluation_start
    def on_evaluation_start(self) -> None:
        """Stores the state of the random generators, so that the validation can be repeated exactly."""
        if self._training:
            self._random = RandomState().state_dict()

    @hookimpl.on_evaluation_step_end
    def on_evaluation_step_end(self, trainer: Trainer) -> None:
        """Interrupts the evaluation if the run is to stop."""
        # The ranks evaluate different numbers of batches, so they can only stop together after the evaluation.
        if not self._stop or trainer.ranks.several:
            return
        trainer.abandon_evaluation()
        if not self._training:
            self._interrupt("there was nothing to save")
        trainer.progress.reopen_epoch()
        RandomState().load_state_dict(self._random)
        self._act(trainer, self._stop)

    @hookimpl.on_epoch_end
    def on_epoch_end(self, trainer: Trainer) -> None:
        """Acts on a signal that has arrived since the last step."""
        self._act_if_due(trainer)

    @hookimpl.on_run_end
    def on_run_end(self, trainer: Trainer) -> None:
        """Acts on a signal that has arrived after the last step, before another mode starts."""
        if stop := self._received(trainer)[0]:
            self._stop = stop
            note_stop(stop)
            self._interrupt(_DONE)

    @hookimpl.on_exception
    def on_exception(self) -> None:
        """Clears the signal. This is not done earlier, because an exception that a handler raises can get lost."""
        self._stop = None

    @hookimpl.on_teardown
    def on_teardown(self) -> None:
        """Restores the previous handlers."""
        if self._before and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        if self._stop:  # the signal came after `on_run_end`
            self._interrupt(_DONE)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == getattr(signal, "SIGUSR1", None):
            self._save = True
            return
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            if self._interrupts == 2 and self._speaks:
                _say(f"stopped at once, without saving; {_RESUME}")
            raise KeyboardInterrupt
        first, self._stop = self._stop is None, number
        self._acknowledge(number)
        if first and self.grace_seconds is not None and hasattr(signal, "setitimer"):
            self._before.setdefault(signal.SIGALRM, signal.signal(signal.SIGALRM, self._out_of_time))
            signal.setitimer(signal.ITIMER_REAL, max(self.grace_seconds, 1e-6))

    def _acknowledge(self, number: int) -> None:
        """Writes at once that the signal has arrived, because the step may still take minutes."""
        what = "finishing the step and saving a checkpoint" if self._training else "finishing the batch"
        if not self._speaks:
            return
        once_more = "; press Ctrl-C again to stop at once, without saving" if number == signal.SIGINT else ""
        _say(f"{signal.Signals(number).name}: {what}{once_more}")

    def _out_of_time(self, number: int, frame: FrameType | None) -> None:
        self._interrupt(
            f"the step took longer than `grace_seconds = {self.grace_seconds}`, so nothing has been saved; {_RESUME}",
        )

    def _interrupt(self, note: str) -> NoReturn:
        raise Interrupted(self._stop or signal.SIGTERM, note)

    def _received(self, trainer: Trainer) -> tuple[int, bool]:
        """Returns the signal to stop that any rank has received (or 0), and whether any rank needs a checkpoint."""
        received = trainer.ranks.exchange("signals", self._stop or 0, int(self._save))
        return next((stop for stop, _ in received if stop), 0), any(save for _, save in received)

    def _act_if_due(self, trainer: Trainer) -> None:
        if not (self._stop or self._save or trainer.ranks.several):
            return
        # A signal that arrives during this exchange between the ranks is not lost: the next exchange includes it.
        stop, save = self._received(trainer)
        if stop or save:
            self._act(trainer, stop)

    def _act(self, trainer: Trainer, stop: int) -> None:
        self._save = False
        trainer.hooks.on_checkpoint_request(trainer=trainer, reason=signal.Signals(stop or signal.SIGUSR1).name)
        if stop:
            self._stop = stop
            note_stop(stop)
            self._interrupt(_RESUME)


def _say(line: str) -> None:
    """Writes a line to the descriptor of standard error. The signal may have interrupted a write to `sys.stderr`."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{line}\n".encode())
