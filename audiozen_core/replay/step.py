"""Trains on from a checkpoint to a batch, and looks at the step that is made of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from audiozen_core.checkpoint import LoadedCheckpoint
from audiozen_core.data.tensors import map_tensors
from audiozen_core.errors import AudioZenError, RunError
from audiozen_core.hooks.scalars import as_scalar
from audiozen_core.hooks.specs import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.replay.module_watch import ModuleRow, ModuleWatch, watched
from audiozen_core.replay.target import Place
from audiozen_core.replay.training import Built, ReplayedTraining, ReplayHook, restore_saved
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.state import EXTRA, kept_generators


@dataclass(frozen=True, slots=True)
class ReplayedStep:
    """What a step has computed.

    Attributes:
        step: the optimiser step that the batch belongs to, from 1.
        closes_step: whether it is the last batch of the step, whose scalars `metrics.jsonl` has.
        losses: the names of the losses that are trained.
        scalars: what `training_step` has returned, and what the losses have recorded: losses, their parts, and others.
        rows: what each module has computed, in the order of the forward pass.
        first_activation: the module whose output was the first that is not finite; None if all are finite.
        first_gradient: the module at whose output the gradient was not finite first, in the order of the backward pass.
        weights: the weights that were not finite before the step, each with its section.
        earlier: the batches of the same optimiser step that had left gradients that are not finite.
        batch: the batch as the step got it, on the CPU.
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


class _Reached(AudioZenError):  # noqa: N818 (not an error: it ends the training, whatever the trainer is doing)
    """The step has been looked at."""


class StepHook(ReplayHook):
    """Ends a training at a batch, after it has looked at the step.

    Args:
        on_batch: called with the batches that are done, counted from the start of the replay.
    """

    def __init__(self, on_batch: Callable[[int], object] = lambda count: None) -> None:
        self.trainer: BaseTrainer | None = None
        self.place = Place(0, 0)
        self.found: ReplayedStep | None = None
        self.start: Mapping[str, dict[str, Any]] | None = None
        self._on_batch = on_batch
        self._done = 0
        self._earlier: list[int] = []

    @hookimpl.on_run_start
    def on_run_start(self, trainer: Trainer) -> None:
        """Lets each loss be read at once, so that a NaN before the batch is found where it is."""
        trainer.scalars.read_at_once = True

    @hookimpl.on_training_step_start
    def on_training_step_start(self, trainer: Trainer, batch: Any, batch_idx: int) -> None:
        """Looks at the step of the batch, and ends the training."""
        if self.trainer and self._is_at(trainer, batch_idx):
            self.found = look_at_step(self.trainer, batch, batch_idx, tuple(self._earlier))
            raise _Reached("the step has been replayed")

    @hookimpl.on_training_step_end
    def on_training_step_end(self, trainer: Trainer, batch_idx: int) -> None:
        """Notes which batches of an optimiser step leave gradients that are not finite."""
        self._done += 1
        self._on_batch(self._done)
        if self._is_at(trainer, batch_idx):
            raise RunError(
                f"the training leaves out {self.place}, so it has no step",
                remedy="replay it without --step: its samples can't be read, or a hook skips the batch after a NaN",
            )
        if trainer.between_steps:
            self._earlier.clear()
        elif self.trainer and _not_finite(self.trainer, gradients=True):
            self._earlier.append(batch_idx)

    @hookimpl.rollback
    def rollback(self, trainer: Trainer) -> bool | None:
        """Goes back to the state that the replay has started from, as the training went back to a checkpoint."""
        if self.start is None or self.trainer is None:
            return None
        self.trainer.load_checkpoint(self.start)
        trainer.hooks.on_rollback(trainer=trainer)
        return True

    def _is_at(self, trainer: Trainer, batch_idx: int) -> bool:
        return Place(trainer.progress.epoch + 1, batch_idx) == self.place


def train_to(
    training: ReplayedTraining, built: Built, hook: StepHook, place: Place, loaded: LoadedCheckpoint | None
) -> ReplayedStep:
    """Trains from a checkpoint, or from the start, to a batch, as the run has done, and looks at its step.

    Args:
        training: the training; its hook is `hook`.
        built: its parts.
        hook: the hook.
        place: the batch.
        loaded: the checkpoint; None to start from the initial weights.

    Raises:
        RunError: the training ends before.
        NonFiniteError: a loss, or the gradients of a step, are not finite before.
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
        assert hook.found is not None  # it is raised when the step has been looked at
        return hook.found
    raise RunError(
        f"the training ends before {place}: {trainer.ending.reason}", remedy="name a batch that the run has trained on"
    )


def look_at_step(trainer: BaseTrainer, batch: Any, batch_idx: int, earlier: Sequence[int] = ()) -> ReplayedStep:
    """Runs a batch forward and backward, as the training does next, and looks at what each module computes.

    The forward pass runs twice. Modules may compute in another way while they are watched, with other last digits, so
    the scalars come from a first pass that nobody watches. A second one from the same state is watched.
    """
    weights = _not_finite(trainer, gradients=False)
    for module in trainer.modules.values():
        for weight in module.parameters():
            weight.grad = None  # otherwise those of earlier batches of the step would be added
    copied = map_tensors(batch, lambda tensor: tensor.detach().cpu().clone())
    again = map_tensors(batch, Tensor.clone)  # a step may change its batch
    with kept_generators(), _kept_buffers(trainer.modules.values()):
        outputs = trainer.forward_batch(batch, batch_idx)[1]
    with watched(trainer.modules) as watch:
        losses = trainer.forward_batch(again, batch_idx)[0]
        watch.in_backward = True
        trainer.backward_losses({name: _scale_told(loss, watch, trainer) for name, loss in losses.items()})
    numbers = {name: as_scalar(value) for name, value in outputs.items()}
    done, count = batch_idx + 1, trainer.num_batches
    return ReplayedStep(
        trainer.progress.step + 1,
        done % trainer.gradient_accumulation_steps == 0 or done == count,
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
    """Restores the buffers of modules after the block, such as running means."""
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


def _scale_told(loss: Tensor, watch: ModuleWatch, trainer: BaseTrainer) -> Tensor:
    """Returns the same loss, whose gradient tells by what a hook has multiplied it."""

    def note(gradient: Tensor) -> None:
        scale = float(gradient) * trainer.gradient_accumulation_steps
        watch.scale = scale if math.isfinite(scale) and scale else 1.0

    told = loss.view_as(loss)
    if told.requires_grad:
        told.register_hook(note)  # type: ignore[no-untyped-call]
    return told


def _not_finite(trainer: BaseTrainer, *, gradients: bool) -> tuple[str, ...]:
    """Returns the weights that are not finite, or whose gradients are not finite."""
    found = []
    for section, module in trainer.modules.items():
        for name, weight in module.named_parameters():
            values = weight.grad if gradients else weight.detach()
            if values is None:
                continue
            values = values.coalesce().values() if values.is_sparse else values
            if not bool(values.isfinite().all()):
                found.append(f"`{name}` of [{section}]")
    return tuple(found)
