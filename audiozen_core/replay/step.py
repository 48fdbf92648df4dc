"""Trains from a checkpoint up to a batch, and records what the step of this batch computes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from audiozen_core.checkpoint.info import LoadedCheckpoint
from audiozen_core.data.tensors import map_tensors
from audiozen_core.errors import AudioZenError, RunError
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.hooks.scalars import as_scalar
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.replay.module_watch import ModuleRow, ModuleWatch, watched
from audiozen_core.replay.target import BatchPosition
from audiozen_core.replay.training import BuiltTraining, ReplayedTraining, ReplayHook, restore_saved
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.state import EXTRA, kept_generators


@dataclass(frozen=True, slots=True)
class ReplayedStep:
    """The results of a replayed step.

    Attributes:
        step: the optimiser step that the batch belongs to, counted from 1.
        closes_step: whether the batch is the last batch of the optimiser step. `metrics.jsonl` only has the scalars of
            such batches.
        losses: the names of the trained losses.
        scalars: the scalars that `training_step` returned or the losses recorded, such as the parts of a loss.
        rows: what each module computed, in the order of the forward pass.
        first_activation: the first module with an output that was not finite; None if all outputs were finite.
        first_gradient: the first module, in the order of the backward pass, with an output gradient that was not
            finite; None if all gradients were finite.
        weights: the weights that were not finite before the step, with their sections.
        earlier: the earlier batches of the same optimiser step after which gradients were not finite.
        batch: the batch that the step got, on the CPU.
    """

    step: int
    closes_step: bool
    losses: tuple[str, ...]
    scalars: Mapping[str, float]
    rows: Sequence[ModuleRow]
    first_activation: ModuleRow | None
    first_gradient: ModuleRow | None
    weights: tuple[str, ...]
    earlier: tuple[int, ...]
    batch: Any


class _Reached(AudioZenError):  # noqa: N818 (not an error, but it ends the training from anywhere in the trainer)
    """Raised after the step was replayed, to end the training."""


class StepHook(ReplayHook):
    """A hook that replays the step of a batch and then ends the training.

    Args:
        on_batch: called after each batch, with the number of batches since the start of the replay.
    """

    def __init__(self, on_batch: Callable[[int], object] = lambda count: None) -> None:
        self.trainer: BaseTrainer | None = None
        self.place = BatchPosition(0, 0)
        self.found: ReplayedStep | None = None
        self.start: Mapping[str, dict[str, Any]] | None = None
        self._on_batch = on_batch
        self._done = 0
        self._earlier: list[int] = []

    @hookimpl.on_run_start
    def on_run_start(self, trainer: Trainer) -> None:
        """Makes the trainer read each loss immediately, so that a NaN is reported at its batch."""
        trainer.scalars.read_at_once = True

    @hookimpl.on_training_step_start
    def on_training_step_start(self, trainer: Trainer, batch: Any, batch_idx: int) -> None:
        """Replays the step if the batch is the target, and ends the training."""
        if self.trainer and self._is_at(trainer, batch_idx):
            self.found = run_step(self.trainer, batch, batch_idx, tuple(self._earlier))
            raise _Reached("the step has been replayed")

    @hookimpl.on_training_step_end
    def on_training_step_end(self, trainer: Trainer, batch_idx: int) -> None:
        """Records the batches of an optimiser step after which gradients are not finite."""
        self._done += 1
        self._on_batch(self._done)
        if self._is_at(trainer, batch_idx):
            raise RunError(
                f"the training skips {self.place}, so no step can be replayed",
                remedy="omit --step; batches are skipped if no sample can be read, or by a hook after a NaN",
            )
        if trainer.between_steps:
            self._earlier.clear()
        elif self.trainer and _not_finite(self.trainer, gradients=True):
            self._earlier.append(batch_idx)

    @hookimpl.rollback
    def rollback(self, trainer: Trainer) -> bool | None:
        """Restores the state at the start of the replay. At this point, the original run restored a checkpoint."""
        if self.start is None or self.trainer is None:
            return None
        self.trainer.load_checkpoint(self.start)
        trainer.hooks.on_rollback(trainer=trainer)
        return True

    def _is_at(self, trainer: Trainer, batch_idx: int) -> bool:
        return BatchPosition(trainer.progress.epoch + 1, batch_idx) == self.place


def train_to(
    training: ReplayedTraining,
    built: BuiltTraining,
    hook: StepHook,
    place: BatchPosition,
    loaded: LoadedCheckpoint | None,
) -> ReplayedStep:
    """Repeats the training of the run from a checkpoint, or from the start, up to a batch, and replays its step.

    Args:
        training: the training, which was created with `hook`.
        built: the parts of the training.
        hook: the hook that replays the step.
        place: the position of the batch.
        loaded: the checkpoint; None to start from the initial weights.

    Raises:
        RunError: the training ends before the batch.
        NonFiniteError: before the batch, a loss or the gradients of a step are not finite.
    """
    trainer = built.trainer
    if loaded is not None:
        restore_saved(training, trainer, loaded)
    if trainer.on_nonfinite == "rollback":
        extra = {EXTRA: loaded.state[EXTRA]} if loaded and EXTRA in loaded.state else {}
        hook.start = {**copy.deepcopy(trainer.state.state_dict()), **extra}
    hook.trainer, hook.place = trainer, place
    try:
        trainer.train(built.loader, built.validation)
    except _Reached:
        assert hook.found is not None  # `_Reached` is raised after `found` was set
        return hook.found
    raise RunError(
        f"the training ends before {place}: {trainer.ending.reason}", remedy="choose a batch that the run trained on"
    )


def run_step(trainer: BaseTrainer, batch: Any, batch_idx: int, earlier: Sequence[int] = ()) -> ReplayedStep:
    """Runs the forward and backward pass of a batch, as the training would, and records what each module computes.

    The forward pass runs twice. Forward hooks can make modules take another code path, and change the last digits of
    their outputs. The scalars therefore come from a first pass without hooks. The second pass starts from the same
    state and has the hooks.
    """
    weights = _not_finite(trainer, gradients=False)
    for module in trainer.modules.values():
        for weight in module.parameters():
            weight.grad = None  # otherwise the gradients of earlier batches of the step would be added
    copied = map_tensors(batch, lambda tensor: tensor.detach().cpu().clone())
    second_batch = map_tensors(batch, Tensor.clone)  # a step may change its batch
    with kept_generators(), _kept_buffers(trainer.modules.values()):
        outputs = map_tensors(trainer.forward_batch(batch, batch_idx)[1], Tensor.detach)
    with watched(trainer.modules) as watch:
        losses = trainer.forward_batch(second_batch, batch_idx)[0]
        watch.in_backward = True
        trainer.backward_losses({name: _record_scale(loss, watch, trainer) for name, loss in losses.items()})
    numbers = {name: as_scalar(value) for name, value in outputs.items()}
    batches_done, count = batch_idx + 1, trainer.num_batches
    return ReplayedStep(
        trainer.progress.step + 1,
        batches_done % trainer.gradient_accumulation_steps == 0 or batches_done == count,
        tuple(losses),
        {name: float(number) for name, number in numbers.items() if number is not None},
        watch.rows,
        watch.first_activation,
        watch.first_gradient,
        weights,
        tuple(earlier),
        copied,
    )


@contextmanager
def _kept_buffers(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Restores the buffers of modules, such as running means, after the block."""
    parts = {part for module in modules for part in module.modules()}
    before = [
        (part, name, buffer, buffer.detach().clone())
        for part in parts
        for name, buffer in part._buffers.items()
        if buffer is not None
    ]
    yield
    with torch.no_grad():
        for part, name, buffer, values in before:
            part._buffers[name] = buffer.copy_(values)


def _record_scale(loss: Tensor, watch: ModuleWatch, trainer: BaseTrainer) -> Tensor:
    """Returns a view of the loss that sets `watch.scale` in the backward pass.

    A hook, such as the one for mixed precision, may multiply the loss by a factor. The gradient of the view is this
    factor, divided by the number of accumulated batches.
    """

    def note(gradient: Tensor) -> None:
        scale = float(gradient) * trainer.gradient_accumulation_steps
        watch.scale = scale if math.isfinite(scale) and scale else 1.0

    view = loss.view_as(loss)
    if view.requires_grad:
        view.register_hook(note)  # type: ignore[no-untyped-call]
    return view


def _not_finite(trainer: BaseTrainer, *, gradients: bool) -> tuple[str, ...]:
    """Returns the names of the weights that are not finite, or that have gradients that are not finite."""
    names = []
    for section, module in trainer.modules.items():
        for name, weight in module.named_parameters():
            values = weight.grad if gradients else weight.detach()
            if values is None:
                continue
            values = values.coalesce().values() if values.is_sparse else values
            if not bool(values.isfinite().all()):
                names.append(f"`{name}` of [{section}]")
    return tuple(names)
