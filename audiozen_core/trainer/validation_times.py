"""When a training validates: after every so many epochs, optimiser steps, or minutes."""

from __future__ import annotations

import time
from collections.abc import Callable

from audiozen_core.distributed.ranks import Ranks
from audiozen_core.hooks.progress import Progress


class ValidationTimes:
    """Says when a validation is due. Exactly one of the intervals is used.

    With `minutes`, only the clock of rank 0 counts. Time that passes in validations, and between two runs, does not.

    Args:
        progress: the progress of the run. It remembers the last validation, and the time since then.
        ranks: the processes of the run.
        epochs: the number of epochs between two validations.
        steps: the number of optimiser steps between two validations, instead.
        minutes: the number of minutes, instead.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        progress: Progress,
        ranks: Ranks,
        *,
        epochs: int | None,
        steps: int | None,
        minutes: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress = progress
        self._ranks = ranks
        self._epochs = epochs
        self._steps = steps
        self._minutes = minutes
        self.clock = clock
        self._read = 0.0
        self._time_is_up = False

    def start(self) -> None:
        """Counts the time from now on, on top of that which a checkpoint has."""
        self._read = self.clock()
        self.note_step()

    def note_step(self) -> None:
        """Counts the time of the step that is done; all ranks call this."""
        if self._minutes is None:
            return
        now = self.clock()
        self._progress.unvalidated_seconds += now - self._read
        self._read = now
        is_up = self._progress.unvalidated_seconds >= 60 * self._minutes
        self._time_is_up = bool(self._ranks.exchange("validation time", int(is_up))[0][0])

    def is_due(self) -> bool:
        """Whether to validate after the step that is done. The answer is the same on all ranks."""
        progress = self._progress
        if progress.validated_step == progress.step:
            return False
        if self._steps is not None:
            return progress.step % self._steps == 0
        if self._epochs is not None:
            return progress.batch == 0 and progress.epoch % self._epochs == 0
        return self._time_is_up

    def restart(self) -> None:
        """Counts the time anew, because a validation is over."""
        self._progress.unvalidated_seconds, self._time_is_up = 0.0, False
        self._read = self.clock()
