"""Saves checkpoints one after another, in the training thread or in the background."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiozen_core.checkpoint.store import CheckpointStore

if TYPE_CHECKING:
    from audiozen_core.checkpoint.format.checkpoint import PackedState


@dataclass(frozen=True, slots=True)
class SaveResult:
    """The result of a save.

    Attributes:
        epoch: the number of complete epochs.
        step: the number of optimiser steps.
        is_best: whether the checkpoint was saved as the best.
        folder: the checkpoint's folder; None if the save failed.
        error: the error of a failed save; None if the save succeeded.
    """

    epoch: int
    step: int
    is_best: bool
    folder: Path | None = None
    error: BaseException | None = None


class CheckpointWriter:
    """Saves states in a store, one after another.

    With `background`, `save` returns as soon as the state has been copied, and a thread writes the copy. A save waits
    for the previous save, and reuses the memory of the previous copy. If writing fails, `save` does not raise the
    error; `take_results` returns the result of every save.

    Args:
        store: the store that saves the checkpoints.
        background: whether a thread writes the checkpoints.
    """

    def __init__(self, store: CheckpointStore, *, background: bool) -> None:
        self.store = store
        self.background = background
        self._thread: threading.Thread | None = None
        self._results: list[SaveResult] = []
        self._copy: PackedState | None = None

    def save(
        self,
        state: Mapping[str, Any],
        *,
        epoch: int,
        step: int,
        score: float | None = None,
        is_best: bool = False,
        within_epoch: bool = False,
        keep: int | None = None,
    ) -> None:
        """Starts a save; the arguments are those of `CheckpointStore.save`.

        Raises:
            UnstorableStateError: something in `state` can't be stored.
        """
        from audiozen_core.checkpoint.format.checkpoint import pack_state

        self.wait()
        packed = pack_state(state)

        def write(packed: PackedState) -> None:
            try:
                folder = self.store.save(
                    packed,
                    epoch=epoch,
                    step=step,
                    score=score,
                    is_best=is_best,
                    within_epoch=within_epoch,
                    keep=keep,
                )
                self._results.append(SaveResult(epoch, step, is_best, folder))
            except BaseException as error:
                self._results.append(SaveResult(epoch, step, is_best, error=error))

        if self.background:
            self._copy = packed.clone(reuse=self._copy)
            self._thread = threading.Thread(target=write, args=(self._copy,), name="checkpoint", daemon=True)
            self._thread.start()
        else:
            write(packed)

    def wait(self) -> None:
        """Waits until the last save has finished."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    @property
    def has_results(self) -> bool:
        """Whether a save has finished since the last call of `take_results`."""
        return bool(self._results)

    def take_results(self) -> list[SaveResult]:
        """Returns the results of the saves that have finished since the last call, in order."""
        results, self._results = self._results, []
        return results
