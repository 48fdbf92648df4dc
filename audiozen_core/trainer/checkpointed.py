"""The checkpoints of a trainer: how its state is collected for one, and restored from one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from audiozen_core.checkpoint.errors import UnstorableStateError
from audiozen_core.hooks.hook_state import state_name
from audiozen_core.hooks.nonfinite import NonFiniteError
from audiozen_core.hooks.plugin import Plugin
from audiozen_core.trainer.evaluation import Evaluation
from audiozen_core.trainer.nonfinite import check_weights
from audiozen_core.trainer.sharded_state import gathered
from audiozen_core.trainer.state import EXTRA, StateRegistry
from audiozen_core.trainer.step_scalars import StepScalars


class CheckpointedTrainer(Evaluation):
    """The part of a trainer that has to do with checkpoints.

    Attributes:
        state: what is saved, by name. A trainer or a hook may register more.
        scalars: the scalars of the steps of the current epoch; see `Scalars`.
    """

    state: StateRegistry
    scalars: StepScalars

    @contextmanager
    def checkpoint(self) -> Iterator[dict[str, dict[str, Any]]]:
        """Provides the complete state, by name, with what the hooks add under `extra`.

        Copy or write the state within the block: afterwards hooks may change its tensors (`on_state_collected`). If
        networks are sharded, only rank 0 gets whole tensors, on the CPU.

        Raises:
            NonFiniteError: a weight is not finite.
            CheckpointError: the state of something can't be read, or the block can't store it.
        """
        # Losses are checked before weights. A loss that is not finite explains bad weights, and a hook may handle it.
        self._complete_records()
        self._warn_of_unsaved()
        try:
            check_weights(self.modules, self.scalars.last_step, self.ranks)
        except NonFiniteError as error:
            error.notes = (*error.notes, *self._step_notes())
            raise
        try:
            self.hooks.on_state_collect(trainer=self._as_trainer)
            extra = {"config": self.config_text, "hooks": self.hooks.collect_extra(self._as_trainer)}
            state = {**self.state.state_dict(), EXTRA: extra}
            yield gathered(state, self.ranks) if self.is_sharded else state
        except UnstorableStateError as error:
            raise _naming_the_hook(error, self.hooks.plugins) from None
        finally:
            self.hooks.on_state_collected(trainer=self._as_trainer)

    def load_checkpoint(self, state: Mapping[str, dict[str, Any]]) -> None:
        """Restores the state of a checkpoint.

        Args:
            state: the state that `checkpoint` returned or `CheckpointStore.load` has read, by name.

        Raises:
            CheckpointError: the state does not fit this trainer.
        """
        state = dict(state)
        self.hooks.distribute_extra(self._as_trainer, state.pop(EXTRA, {}).get("hooks", {}))
        self.state.load_state_dict(state)

    def _step_notes(self) -> list[str]:
        """Returns the notes for a value that is not finite: the training step, and where its batches are from."""
        step = getattr(self.training_step, "__qualname__", repr(self.training_step))
        return [f"step: {step} of [trainer]", *self.participants.data_notes()]

    def _complete_records(self) -> None:
        """Does nothing here; a trainer that trains overrides it."""

    def _warn_of_unsaved(self) -> None:
        """Does nothing here; a trainer that trains warns of what the checkpoint will not have."""


def _naming_the_hook(error: UnstorableStateError, plugins: Iterable[Plugin]) -> UnstorableStateError:
    """Returns an error that names a hook as the user knows it, if the state is that of a hook."""
    for plugin in plugins:
        added = [(keys[2:], reason) for keys, reason in error.problems if tuple(keys[:2]) == ("hooks", plugin.name)]
        if error.owner == state_name(plugin):
            return UnstorableStateError(error.owner, error.problems, title=str(plugin), root="state_dict()")
        if error.owner == EXTRA and added:
            return UnstorableStateError(error.owner, added, title=str(plugin), root="extra")
    return error
