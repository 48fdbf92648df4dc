"""Decides when a validation is due: after a number of epochs, optimiser steps, or minutes."""

from __future__ import annotations

import time
from collections.abc import Callable

from audiozen_core.distributed.ranks import Ranks
from audiozen_core.hooks.progress import Progress


class ValidationTimes:
    """Decides when a validation is due. Exactly one of the three intervals must be set.

    With `minutes`, the clock of rank 0 decides. The time during validations and the time between two sessions of a run
    are not counted.

    Args:
        progress: the progress of the run. It stores the step of the last validation, and the time since then.
        ranks: the processes of the run.
        epochs: the number of epochs between two validations; None if another interval is set.
        steps: the number of optimiser steps between two validations; None if another interval is set.
        minutes: the number of minutes between two validations; None if another interval is set.
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
        """Starts to count time, in addition to the time that was restored from a checkpoint."""
        self._read = self.clock()
        self.note_step()

    def note_step(self) -> None:
        """Counts the time of a completed step. All ranks must call it."""
        if self._minutes is None:
            return
        now = self.clock()
        self._progress.unvalidated_seconds += now - self._read
        self._read = now
        is_up = self._progress.unvalidated_seconds >= 60 * self._minutes
        self._time_is_up = bool(self._ranks.exchange("validation time", int(is_up))[0][0])

    def is_due(self) -> bool:
        """Returns whether a validation is due after the latest step. The result is the same on all ranks."""
        progress = self._progress
        if progress.validated_step == progress.step:
            return False
        if self._steps is not None:
            return progress.step % self._steps == 0
        if self._epochs is not None:
            return progress.batch == 0 and progress.epoch % self._epochs == 0
        return self._time_is_up

    def restart(self) -> None:
        """Resets the counted time after a validation."""
        self._progress.unvalidated_seconds, self._time_is_up = 0.0, False
        self._read = self.clock()
