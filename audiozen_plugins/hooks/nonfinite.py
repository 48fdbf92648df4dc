"""Handles a NaN or infinite loss or gradient: `trainer.args.on_nonfinite` and `max_nonfinite`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn

from audiozen_core.hooks.marker import hookimpl
from audiozen_core.hooks.nonfinite import NonFiniteAnswer, NonFiniteError
from audiozen_core.hooks.trainer_protocol import Trainer


class NonFinite:
    """Decides what happens if a loss or a gradient is NaN or infinite.

    With `on_nonfinite = "skip"`, the batch is skipped. It changes neither weights nor buffers: the buffers of networks
    and losses, such as running means, are restored. With `"rollback"`, the last checkpoint is restored, and training
    continues without the batch. A checkpoint is saved before the first step, so that there is always a checkpoint to
    restore. With `"stop"`, the run ends with the error.

    Checkpoints contain the number of batches with a NaN or infinity, and the list of batches to leave out.
    """

    default = True
    affects_outputs = False
    state_is_for_training = True

    def __init__(self) -> None:
        self.count = 0
        self.left_out: set[tuple[int, int]] = set()
        self._step: int | None = None
        self._before_step: _Buffers | None = None
        self._before_batch: _Buffers | None = None
        self._start_is_saved = False

    def idle_hooks(self, trainer: Trainer) -> Collection[str]:
        """Returns the hooks that do nothing: `skip_batch` without rollbacks, the start of a step without skipping."""
        leaves_out = trainer.on_nonfinite == "rollback" or self.left_out
        skips = trainer.on_nonfinite == "skip"
        return ["skip_batch"] * (not leaves_out) + ["on_training_step_start"] * (not skips)

    @hookimpl.on_run_start
    def on_run_start(self, trainer: Trainer) -> None:
        """Makes the trainer read each loss at once. A batch can be skipped only before its gradients are used."""
        if trainer.on_nonfinite == "skip":
            trainer.scalars.read_at_once = True

    @hookimpl.on_epoch_start
    def on_epoch_start(self, trainer: Trainer) -> None:
        """Requests a checkpoint before the first step. A rollback in the first epoch restores it."""
        self._step = None
        if trainer.on_nonfinite == "rollback" and trainer.progress.step == 0 and not self._start_is_saved:
            self._start_is_saved = True
            trainer.hooks.on_checkpoint_request(trainer=trainer, reason="a rollback needs a checkpoint")

    @hookimpl.skip_batch
    def skip_batch(self, trainer: Trainer, batch_idx: int) -> bool | None:
        """Leaves out the batches that have caused a rollback."""
        return True if (trainer.progress.epoch + 1, batch_idx) in self.left_out else None

    @hookimpl.on_training_step_start
    def on_training_step_start(self, trainer: Trainer) -> None:
        """Copies the buffers, because the forward pass updates running means before the loss is known."""
        if trainer.on_nonfinite != "skip":
            return
        self._before_batch = _Buffers(trainer)
        if self._step != trainer.progress.step:
            self._step, self._before_step = trainer.progress.step, self._before_batch

    @hookimpl.on_nonfinite
    def on_nonfinite(self, trainer: Trainer, error: NonFiniteError) -> NonFiniteAnswer | None:
        """Applies the policy, up to `max_nonfinite` times."""
        if trainer.on_nonfinite == "stop":
            return None
        self.count += 1
        if self.count > trainer.max_nonfinite:
            remedy = (
                f"this has happened {self.count} times, more than `max_nonfinite = {trainer.max_nonfinite}`: lower the "
                "learning rate, clip the gradients, or inspect these samples; the checkpoints are not affected"
            )
            raise NonFiniteError(error.problem, error.location, remedy=remedy, notes=error.notes)
        if trainer.on_nonfinite == "rollback":
            self.left_out.update((error.location.epoch, batch_idx) for batch_idx in error.location.batches)
            return "rollback"
        # A loss belongs to one batch, but a gradient belongs to all batches since the last optimiser step.
        before = self._before_batch if len(error.location.batches) == 1 else self._before_step
        if before is not None:
            before.restore()
        trainer.log.warning("the batch is skipped", reason=error.message, so_far=self.count)
        return "skip"

    def state_dict(self) -> dict[str, Any]:
        """Returns the number of batches with a NaN or infinity, and the batches that are left out."""
        return {"count": self.count, "left_out": [list(batch) for batch in sorted(self.left_out)]}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Restores a state, but also keeps the batches found since it was saved, which a rollback must not forget."""
        self.count = max(self.count, state_dict["count"])
        self.left_out |= {(epoch, batch_idx) for epoch, batch_idx in state_dict["left_out"]}


class _Buffers:
    """A copy of the buffers of all networks and losses."""

    def __init__(self, trainer: Trainer) -> None:
        parts = [*trainer.models.values(), *trainer.loss_functions.values()]
        modules = [module for part in parts if isinstance(part, nn.Module) for module in part.modules()]
        self._kept: list[tuple[nn.Module, str, Tensor, Tensor]] = [
            (module, name, buffer, buffer.clone())
            for module in modules
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]

    def restore(self) -> None:
        """Puts the same tensors back into the modules, and restores their values."""
        for module, name, buffer, before in self._kept:
            module._buffers[name] = buffer.copy_(before)
