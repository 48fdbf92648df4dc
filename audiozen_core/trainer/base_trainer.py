"""The training loop: epoch, step, backward, optimiser step, validation. Everything else is a hook."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from torch import Tensor

from audiozen_core.binding.ranges import Natural, Positive, Range, check_ranges
from audiozen_core.data.loader import BatchLoader
from audiozen_core.data.unreadable import UnreadablePolicy
from audiozen_core.errors import RunError
from audiozen_core.hooks.ending import RunEnding
from audiozen_core.hooks.nonfinite import NonFiniteError, NonFinitePolicy, RollbackRequest
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.trainer.checkpointed import CheckpointedTrainer
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.epoch_ends import prefixed, scalars_of
from audiozen_core.trainer.gradients import Gradients
from audiozen_core.trainer.learning_rates import learning_rates
from audiozen_core.trainer.losses import LossChoice
from audiozen_core.trainer.part_errors import translate_step_errors
from audiozen_core.trainer.state import RandomState, StateRegistry
from audiozen_core.trainer.step_scalars import StepScalars
from audiozen_core.trainer.stop_request import StopRequest
from audiozen_core.trainer.unsaved_tensors import UnsavedTensors


class BaseTrainer(CheckpointedTrainer):
    """The base class of all trainers; a subclass defines the steps.

    The steps are `training_step` and, for the modes that the trainer is used in, `validation_step` and
    `validation_epoch_end`, `test_step` and `test_epoch_end`, `predict_step`. A subclass adds its own arguments, and
    passes the others on:

        class Trainer(BaseTrainer):
            def __init__(self, components, *, alpha: float = 0.5, **kwargs):
                super().__init__(components, **kwargs)
                self.alpha = alpha

            def training_step(self, batch, batch_idx):
                return self.loss_function(self.model(batch["noisy"]), batch["clean"])

    It can use `self.model`, `self.loss_function`, `self.optimizer`, `self.lr_scheduler`; `self.stft`, `self.istft` and
    the values of `[acoustics]`; `self.progress`, `self.log`, `self.device`, `self.folder`.

    Args:
        components: the components to work with; passed by AudioZEN.
        max_epochs: the maximum number of epochs.
        max_steps: the maximum number of optimiser steps; None for no limit.
        clip_grad_norm_value: the maximum norm of all gradients of a network together; None for no clipping.
        monitor: the scalar of the validation that is the score; by default the trainer's own. A hook may add scalars.
        save_max_score: whether a higher score is better; false if a lower one is.
        save_ckpt_interval: save a checkpoint every N epochs, and always after the best epoch and the last epoch.
        save_ckpt_interval_steps: also save every N optimiser steps, within an epoch too; None for never.
        save_ckpt_minutes: also save within an epoch when N minutes have passed since the last save; None for never.
        save_ckpt_async: write checkpoints in the background, so that training only waits for a copy.
        patience: stop after N epochs without a better score, which NaN never is; None for no limit.
        validation_interval: validate every N epochs, and after the last epoch.
        max_num_checkpoints: the number of the newest checkpoints to keep; the best and the latest are always kept.
        gradient_accumulation_steps: the number of batches whose gradients are averaged into one optimiser step.
        plot_norm: record the norm of the gradients, before clipping, as `train/grad_norm`. A step that is skipped
            because of an overflow has no norm.
        log_interval: record the scalars of a single step every N optimiser steps; 0 for never. Until the first N steps
            are done, the last step of each epoch is recorded, so that a short run has such a record too.
        on_nonfinite: what happens after a NaN or infinite loss or gradient: `stop` ends the run; `skip` leaves the
            batch out (a GPU then waits for each loss); `rollback` restores the last checkpoint and leaves the batch
            out.
        max_nonfinite: the number of times that `skip` or `rollback` may happen in a run.
        on_bad_data: what happens if a sample can't be read: `stop` ends the run; `skip` leaves the sample out.
        max_bad_data: the number of different samples that `skip` may leave out in a run.

    Raises:
        RunError: an argument is out of range, or a scheduler contradicts `save_max_score` or has set a learning rate
            that is not a number.
    """

    # The arguments that may change before a resume: the result is the same, or training just lasts longer.
    resume_safe: ClassVar[tuple[str, ...]] = (
        "max_epochs",
        "max_steps",
        "patience",
        "validation_interval",
        "log_interval",
        "plot_norm",
        "save_ckpt_interval",
        "save_ckpt_interval_steps",
        "save_ckpt_minutes",
        "save_ckpt_async",
        "max_num_checkpoints",
        "on_nonfinite",
        "max_nonfinite",
        "on_bad_data",
        "max_bad_data",
    )

    def __init__(
        self,
        components: Components,
        *,
        max_epochs: Positive = 100,
        max_steps: Positive | None = None,
        clip_grad_norm_value: Annotated[float, Range(above=0)] | None = None,
        monitor: str = "score",
        save_max_score: bool = True,
        save_ckpt_interval: Positive = 1,
        save_ckpt_interval_steps: Positive | None = None,
        save_ckpt_minutes: Annotated[float, Range(least=0)] | None = None,
        save_ckpt_async: bool = True,
        patience: Positive | None = None,
        validation_interval: Positive = 1,
        max_num_checkpoints: Positive = 5,
        gradient_accumulation_steps: Positive = 1,
        plot_norm: bool = False,
        log_interval: Natural = 50,
        on_nonfinite: NonFinitePolicy = "stop",
        max_nonfinite: Natural = 10,
        on_bad_data: UnreadablePolicy = "stop",
        max_bad_data: Natural = 10,
    ) -> None:
        check_ranges(BaseTrainer, locals())
        super().__init__(
            components,
            monitor=monitor,
            save_max_score=save_max_score,
            on_bad_data=on_bad_data,
            max_bad_data=max_bad_data,
        )
        self.max_epochs = max_epochs
        self.max_steps = max_steps
        self.clip_grad_norm_value = clip_grad_norm_value
        self.save_ckpt_interval = save_ckpt_interval
        self.save_ckpt_interval_steps = save_ckpt_interval_steps
        self.save_ckpt_minutes = save_ckpt_minutes
        self.save_ckpt_async = save_ckpt_async
        self.patience = patience
        self.validation_interval = validation_interval
        self.max_num_checkpoints = max_num_checkpoints
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.plot_norm = plot_norm
        self.log_interval = log_interval
        self.on_nonfinite: NonFinitePolicy = on_nonfinite
        self.max_nonfinite = max_nonfinite
        for suffix, scheduler in self.lr_schedulers.items():
            scheduler.check(save_max_score=save_max_score)
            scheduler.check_rates(self.optimizers[suffix])

        self.num_batches: int | None = None
        self.loss_is_scaled = False
        self.grad_norm: Tensor | None = None
        self.scalars = StepScalars(self.progress, self.device, self.modules, self._ask_hooks)
        self.state = StateRegistry()
        self.state.register_components(components, self)
        self.state.register("progress", self.progress, training_only=True)
        self.state.register("scalars", self.scalars, training_only=True)
        self.state.register("unreadable", self.unreadable, training_only=True)
        self.state.register("rng", RandomState(), training_only=True)
        parts = {suffix: self.modules_of(suffix) for suffix in self.models}
        self._gradients = Gradients(parts, self.optimizers, self.gradient_accumulation_steps)
        self._losses = LossChoice(f"{type(self).__name__}.training_step")
        # A window is the batches whose gradients are accumulated into one optimiser step.
        self._window_open = False
        self._first_step_done = False
        self._unsaved = UnsavedTensors({})

    # ------------------------------------------------------------------------------- training

    def train(self, loader: BatchLoader, validation_loaders: Sequence[BatchLoader] = ()) -> None:
        """Trains until `max_epochs` or `max_steps` is reached, or a hook gives a reason to stop."""
        self.check_schedulers(loader)
        validated = False
        with self._running("train"):
            self._unsaved = UnsavedTensors(self.modules)
            while (ending := self._ending()) is None:
                try:
                    metrics = self._train_epoch(loader)
                except RollbackRequest as request:
                    if not self.hooks.rollback(trainer=self, error=request.reason):
                        raise request.reason from None
                    continue
                except StopRequest as request:
                    ending = RunEnding("stopped", request.reason)
                    self.hooks.on_checkpoint_request(trainer=self, reason=request.reason)
                    break
                self.progress.complete_epoch()
                epoch = self.progress.epoch
                last = epoch == self.max_epochs or self._out_of_steps
                score = None
                if validation_loaders and (last or epoch % self.validation_interval == 0):
                    score, scalars = self._validate(validation_loaders)
                    validated = True
                    metrics |= scalars
                self._step_schedulers("epoch", score)
                # These are part of the record of the epoch, so that a resumed run removes and repeats them with it.
                newest = self.scalars.last_record if self.progress.step < self.log_interval else None
                record = metrics | (prefixed("step", newest.metrics) if newest else {})
                self.hooks.on_log(trainer=self, mode="train", metrics=record, step=self.progress.step, epoch=epoch)
                self.hooks.on_epoch_end(trainer=self, epoch=epoch, metrics=metrics)
            self.ending = ending
            progress = self.progress
            self.log.info("training is over", reason=ending.reason, epochs=progress.epoch, steps=progress.step)
            if validated and not progress.best_epoch:
                self._warn_without_best()

    def check_schedulers(self, loader: BatchLoader) -> None:
        """Checks that no scheduler ends before the training does. Raises RunError if one has fewer steps."""
        epochs, batches = self.max_epochs, loader.num_batches
        windows = None if batches is None else epochs * math.ceil(batches / self.gradient_accumulation_steps)
        steps = min((limit for limit in (windows, self.max_steps) if limit is not None), default=None)
        for scheduler in self.lr_schedulers.values():
            scheduler.check_length(epochs=epochs, steps=steps)

    def _ending(self) -> RunEnding | None:
        if self.progress.epoch >= self.max_epochs:
            return RunEnding("finished", f"max_epochs = {self.max_epochs} is reached")
        # In the middle of an epoch, `_train_epoch` ends the epoch early, so that it is still validated.
        if self._out_of_steps and not self.progress.batch:
            return RunEnding("finished", f"max_steps = {self.max_steps} is reached")
        reason = self.hooks.stop_reason(trainer=self)
        return RunEnding("stopped", reason) if reason else None

    @property
    def _out_of_steps(self) -> bool:
        return self.max_steps is not None and self.progress.step >= self.max_steps

    def _train_epoch(self, loader: BatchLoader) -> dict[str, float]:
        epoch, start = self.progress.epoch + 1, self.progress.batch
        # A sampler may give another number of batches in each epoch, so it is told the epoch first.
        batches = self.batches(loader, epoch, start=start)
        self.num_batches = loader.num_batches
        self.progress.begin_epoch(self.num_batches, loader.stream_workers)
        self.scalars.begin()
        self._gradients.clear()
        self._window_open = False
        self.set_mode(training=True)
        if self._first_step_done:
            self._gradients.check_no_new_weights()  # a validation may have made some, and hooks still may
        self.hooks.on_epoch_start(trainer=self, epoch=epoch)
        self._gradients.find_weights()
        for batch_idx, item in enumerate(batches, start=start):
            if self._out_of_steps:
                break
            self._train_batch(item, batch_idx)
            if not self._window_open and (reason := self.hooks.stop_within_epoch_reason(trainer=self)):
                self.scalars.flush()  # a loss that is not finite may still ask for a rollback
                raise StopRequest(reason)
        if self._window_open:
            self._optimizer_step()
        self._gradients.check_no_new_weights()
        steps = self.scalars.flush()
        self._log_steps()
        if not steps:
            raise RunError(
                f"no batch of epoch {epoch} was trained on: each was left out, by a hook, or because its loss was not "
                "finite, or because its samples can't be read",
                remedy="check which hooks implement `skip_batch` (`audiozen hooks`), and the warnings above",
            )
        scalars = {**self.scalars.rates, **scalars_of(self.training_epoch_end, steps)}
        added = self.hooks.added_scalars("epoch_scalars", scalars, trainer=self, epoch=epoch)
        return prefixed("train", {**scalars, **added})

    def _train_batch(self, item: Any, batch_idx: int) -> None:
        """Trains on one batch. Takes an optimiser step if the batch is the last of its window.

        `item` is None if all samples of the batch are unreadable.
        """
        batch, outputs = None, {}
        if item is not None and not self.hooks.skip_batch(trainer=self, batch_idx=batch_idx):
            batch = self.load_batch(item, "train", batch_idx)
            self.hooks.on_training_step_start(trainer=self, batch=batch, batch_idx=batch_idx)
            outputs = self._learn(batch, batch_idx)
        done = batch_idx + 1
        self._window_open = done % self.gradient_accumulation_steps != 0 and done != self.num_batches
        if not self._window_open:
            self._optimizer_step()
        self.progress.batch = done
        self.hooks.on_training_step_end(trainer=self, batch=batch, batch_idx=batch_idx, outputs=outputs)

    def _learn(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Runs the forward and the backward pass. Returns everything that the step returned, detached."""
        losses, outputs = self.forward_batch(batch, batch_idx)
        if self.scalars.add(outputs, losses=losses, batch_idx=batch_idx, batch=batch):
            self.backward_losses(losses)
        return outputs

    def forward_batch(self, batch: Any, batch_idx: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Runs the forward pass. Returns the losses by name, and everything that the step returned, detached."""
        if not self._first_step_done:
            self._gradients.find_weights()  # hooks may have changed some since the trainer was built
        with self._autocast(), translate_step_errors(self.training_step, batch, batch_idx):
            result = self.training_step(batch, batch_idx)
            losses = self._losses.choose(result, self._gradients.trained_suffixes)
        if not self._first_step_done:
            self._gradients.check_no_new_weights()
            self._first_step_done = True
        given = (result if isinstance(result, Mapping) else losses).items()
        return losses, {name: value.detach() if isinstance(value, Tensor) else value for name, value in given}

    def backward_losses(self, losses: Mapping[str, Tensor], *, ask_hooks: bool = True) -> None:
        """Back-propagates the losses that `forward_batch` returned, each to the weights that it trains.

        `ask_hooks` says whether the hook `backward` may do it.
        """
        for count, (name, loss) in enumerate(losses.items(), start=1):
            suffix = name.removeprefix("loss_") if name != "loss" else None
            inputs = None if suffix is None else self._gradients.inputs(suffix)
            share = loss / self.gradient_accumulation_steps if self.gradient_accumulation_steps > 1 else loss
            # Several losses may share parts of one graph, so the graph is kept until the last loss.
            last = count == len(losses)
            if not (ask_hooks and self.hooks.backward(trainer=self, loss=share, inputs=inputs, last=last)):
                torch.autograd.backward(share, inputs=inputs, retain_graph=not last)
            if suffix is not None:
                self._gradients.check_reached(suffix)
            self._gradients.count(list(self.models) if suffix is None else [suffix])

    def _optimizer_step(self) -> None:
        """Closes the window. The step counts even if all its batches were skipped, so that schedules do not shift."""
        self._gradients.average()
        measured = {} if self.loss_is_scaled else self._gradients.measure()
        if self.scalars.add_gradients(measured) and self._gradients.present:
            self.hooks.on_gradients_ready(trainer=self)
            if self.plot_norm and self.grad_norm is not None:
                self.scalars.add_grad_norm(self.grad_norm, may_overflow=self.loss_is_scaled)
            self.step_optimizers()
        self._gradients.clear()
        self._window_open = False
        self.progress.step += 1
        self.scalars.close_step(self.progress.step, learning_rates(self.optimizers))
        self._step_schedulers("step")
        self.hooks.on_optimizer_step_end(trainer=self, step=self.progress.step)
        self._log_steps()

    def step_optimizers(self, *, ask_hooks: bool = True) -> None:
        """Lets each optimiser take a step with the present gradients; the hook `optimizer_step` may do it if asked.

        Raises:
            RunError: an optimiser can't step.
        """
        for suffix, optimizer in self.optimizers.items():
            with self._gradients.explained_step(suffix, optimizer):
                if not (ask_hooks and self.hooks.optimizer_step(trainer=self, optimizer=optimizer)):
                    optimizer.step()

    def _log_steps(self) -> None:
        """Records the steps that are due and have been read. On a GPU this may be some steps later."""
        for record in self.scalars.take_records():
            if self.log_interval and record.step % self.log_interval == 0:
                metrics = prefixed("step", record.metrics)
                self.hooks.on_log(trainer=self, mode="train", metrics=metrics, step=record.step, epoch=record.epoch)

    def _step_schedulers(self, interval: str, score: float | None = None) -> None:
        for suffix, scheduler in self.lr_schedulers.items():
            scheduler.step(interval, score)
            scheduler.check_rates(self.optimizers[suffix])

    def _ask_hooks(self, error: NonFiniteError) -> None:
        """Asks the hooks how to handle a loss or gradient that is not finite; returns only to skip the batch."""
        error.notes = (*error.notes, *self._step_notes())
        answer = self.hooks.on_nonfinite(trainer=self, error=error)
        if answer == "rollback":
            raise RollbackRequest(error)
        # A loss that was read late has already changed the weights, so its batch can no longer be skipped.
        if answer != "skip" or self.scalars.lag:
            raise error

    # ------------------------------------------------------------------------------- state

    def trained_parameters(self, suffix: str) -> list[Tensor]:
        """Returns the parameters that an optimiser changes: of a network, and of its loss function if it has any."""
        return self._gradients.trained(suffix)

    def measure_gradients(self) -> dict[str, Tensor]:
        """Returns the norm of the present gradients of each network and its loss function, by suffix.

        The norms are scalars on the device. A network without gradients is left out.
        """
        return {suffix: gradients.total for suffix, gradients in self._gradients.measure().items()}

    @property
    def between_steps(self) -> bool:
        """Whether no gradients are being accumulated: only then is the state complete."""
        return not self._window_open

    def _complete_records(self) -> None:
        # The run that resumes from the checkpoint begins with the next step, so it would not record these.
        self.scalars.flush()
        self._log_steps()
        self._unsaved.warn()


if TYPE_CHECKING:

    def _satisfies_the_protocol(trainer: BaseTrainer) -> Trainer:
        """Proves to the type checker that hooks find everything that `Trainer` promises."""
        return trainer
