"""Saves checkpoints one after the other, at once or while the training goes on."""

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
class Saved:
    """What became of a save.

    Attributes:
        epoch: epochs completed.
        step: optimiser steps done.
        is_best: whether `best` was to point at it.
        folder: where it lies; None if the save failed.
        error: why it failed.
    """

    epoch: int
    step: int
    is_best: bool
    folder: Path | None = None
    error: BaseException | None = None


class CheckpointWriter:
    """Hands states to a store, in order.

    Aside, `save` returns when the state has been copied; a thread writes the copy. There is one such thread at a time:
    a save waits for the one before it. The memory of the copy is kept for the next one. What became of each save is
    told by `finished`, in the thread that asks.

    Args:
        store: where to.
        aside: whether to write in a thread.
    """

    def __init__(self, store: CheckpointStore, *, aside: bool) -> None:
        self.store = store
        self.aside = aside
        self._thread: threading.Thread | None = None
        self._done: list[Saved] = []
        self._copy: PackedState | None = None

    def save(
        self,
        state: Mapping[str, Any],
        *,
        epoch: int,
        step: int,
        score: float | None = None,
        is_best: bool = False,
        name: str | None = None,
        keep: int | None = None,
    ) -> None:
        """Starts a save; the arguments are those of `CheckpointStore.save`.

        Raises:
            UnstorableStateError: something in `state` can't be stored.
        """
        from audiozen_core.checkpoint.format.checkpoint import pack

        self.wait()
        packed = pack(state)

        def write(packed: PackedState) -> None:
            try:
                folder = self.store.save(
                    packed, epoch=epoch, step=step, score=score, is_best=is_best, name=name, keep=keep
                )
                self._done.append(Saved(epoch, step, is_best, folder))
            except BaseException as error:
                self._done.append(Saved(epoch, step, is_best, error=error))

        if self.aside:
            self._copy = packed.copied(self._copy)
            self._thread = threading.Thread(target=write, args=(self._copy,), name="checkpoint", daemon=True)
            self._thread.start()
        else:
            write(packed)

    def wait(self) -> None:
        """Returns when nothing is being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def finished(self) -> list[Saved]:
        """What became of the saves that are over and have not been told yet, in order."""
        done, self._done = self._done, []
        return done
