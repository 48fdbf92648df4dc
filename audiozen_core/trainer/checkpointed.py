"""Collects the state of a trainer for a checkpoint, and restores it."""

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
from audiozen_core.trainer.sharded_state import gather_state
from audiozen_core.trainer.state import EXTRA, StateRegistry
from audiozen_core.trainer.step_scalars import StepScalars


class CheckpointedTrainer(Evaluation):
    """The part of a trainer that handles checkpoints.

    Attributes:
        state: the registry of everything that checkpoints contain. Trainers and hooks can register more.
        scalars: the scalars of the steps of the current epoch; see `Scalars`.
    """

    state: StateRegistry
    scalars: StepScalars

    @contextmanager
    def checkpoint(self) -> Iterator[dict[str, dict[str, Any]]]:
        """Provides the complete state by name, including the additions of hooks under `extra`.

        The state must be copied or written within the block, because hooks can change its tensors afterwards
        (`on_state_collected`). If networks are sharded, only rank 0 gets whole tensors, on the CPU.

        Raises:
            NonFiniteError: a weight is not finite.
            CheckpointError: a state can't be read, or the block can't store it.
        """
        # Losses are checked before weights. A loss that is not finite explains bad weights, and a hook can handle it.
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
            yield gather_state(state, self.ranks) if self.is_sharded else state
        except UnstorableStateError as error:
            raise _naming_the_hook(error, self.hooks.plugins) from None
        finally:
            self.hooks.on_state_collected(trainer=self._as_trainer)

    def load_checkpoint(self, state: Mapping[str, dict[str, Any]]) -> None:
        """Restores the state of a checkpoint.

        Args:
            state: the state by name, from `checkpoint` or `CheckpointStore.load`.

        Raises:
            CheckpointError: the state does not fit this trainer.
        """
        state = dict(state)
        self.hooks.distribute_extra(self._as_trainer, state.pop(EXTRA, {}).get("hooks", {}))
        self.state.load_state_dict(state)

    def _step_notes(self) -> list[str]:
        """Returns notes for the error of a non-finite value: the training step, and the origin of its batches."""
        step = getattr(self.training_step, "__qualname__", repr(self.training_step))
        return [f"step: {step} of [trainer]", *self.participants.data_notes()]

    def _complete_records(self) -> None:
        """Does nothing here. A trainer that trains overrides this method."""

    def _warn_of_unsaved(self) -> None:
        """Does nothing here. A trainer that trains warns about tensors that the checkpoint will not contain."""


def _naming_the_hook(error: UnstorableStateError, plugins: Iterable[Plugin]) -> UnstorableStateError:
    """Returns an error that names the hook plugin, if the state belongs to a hook plugin; otherwise the same error."""
    for plugin in plugins:
        added = [(keys[2:], reason) for keys, reason in error.problems if tuple(keys[:2]) == ("hooks", plugin.name)]
        if error.owner == state_name(plugin):
            return UnstorableStateError(error.owner, error.problems, title=str(plugin), root="state_dict()")
        if error.owner == EXTRA and added:
            return UnstorableStateError(error.owner, added, title=str(plugin), root="extra")
    return error
