"""The training loop: epoch, step, backward, optimiser step, validation. Everything else is a hook."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from audiozen_core.binding.ranges import Natural, Positive, Range, check_ranges
from audiozen_core.config.check_training import VALIDATION_INTERVALS, several_intervals
from audiozen_core.data.loader import BatchLoader
from audiozen_core.data.unreadable import UnreadablePolicy
from audiozen_core.errors import RunError
from audiozen_core.hooks.ending import RunEnding
from audiozen_core.hooks.nonfinite import NonFinitePolicy, RollbackRequest
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.epoch_ends import add_prefix, scalars_of
from audiozen_core.trainer.passes import Passes
from audiozen_core.trainer.state import kept_generators
from audiozen_core.trainer.stop_request import StopRequest
from audiozen_core.trainer.unsaved_tensors import UnsavedTensors
from audiozen_core.trainer.validation_times import ValidationTimes


class BaseTrainer(Passes):
    """The base class of all trainers; a subclass defines the steps.

    A subclass defines `training_step` and the steps of the modes that it supports: `validation_step` and
    `validation_epoch_end`, `test_step` and `test_epoch_end`, or `predict_step`. It can add its own arguments, and must
    pass on the others:

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
        monitor: the name of the validation scalar to use as score; by default the score that the trainer returns. Hooks
            can add scalars.
        save_max_score: whether a higher score is better; false if a lower score is better.
        save_ckpt_interval: save a checkpoint every N epochs, and always after the best epoch and the last epoch.
        save_ckpt_interval_steps: also save every N optimiser steps, within an epoch too; None for never.
        save_ckpt_minutes: also save within an epoch when N minutes have passed since the last save; None for never.
        save_ckpt_async: write checkpoints in the background, so that training only waits for a copy.
        patience: stop after N validations without a better score; None for no limit. NaN never counts as better.
        validation_interval: validate every N epochs, and at the end of the training; by default every epoch.
        validation_interval_steps: instead, validate every N optimiser steps, counted over the whole run, also within
            an epoch.
        validation_interval_minutes: instead, validate at the first optimiser step that is N minutes after the last
            validation.
        steps_per_epoch: the number of optimiser steps in an epoch. Each epoch continues at the point in the data where
            the previous epoch ended. None if an epoch is one pass through the data.
        max_num_checkpoints: the number of most recent checkpoints to keep; the best and the latest are always kept.
        gradient_accumulation_steps: the number of batches whose gradients are averaged into one optimiser step.
        plot_norm: record the norm of the gradients, before clipping, as `train/grad_norm`. A step that is skipped
            because of an overflow has no norm.
        log_interval: record the scalars of a single step every N optimiser steps; 0 for never. During the first N
            steps, the last step of each epoch is recorded, so that a short run has such a record too.
        on_nonfinite: what happens after a NaN or infinite loss or gradient: `stop` ends the run; `skip` skips the batch
            (each step then waits until the GPU has computed the loss); `rollback` restores the last checkpoint and
            skips the batch.
        max_nonfinite: how often `skip` or `rollback` is allowed in a run.
        on_bad_data: what happens if a sample can't be read: `stop` ends the run; `skip` skips the sample.
        max_bad_data: the number of different samples that `skip` is allowed to skip in a run.

    Raises:
        RunError: an argument is out of range, several validation intervals are set, or a scheduler contradicts
            `save_max_score` or has set a learning rate that is not a number.
    """

    # These arguments can be changed before a resume: the result stays the same, or training only lasts longer.
    resume_safe: ClassVar[tuple[str, ...]] = (
        "max_epochs",
        "max_steps",
        "patience",
        "validation_interval",
        "validation_interval_steps",
        "validation_interval_minutes",
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
        validation_interval: Positive | None = None,
        validation_interval_steps: Positive | None = None,
        validation_interval_minutes: Annotated[float, Range(above=0)] | None = None,
        steps_per_epoch: Positive | None = None,
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
            gradient_accumulation_steps=gradient_accumulation_steps,
            plot_norm=plot_norm,
            log_interval=log_interval,
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
        self.validation_interval: int | None = validation_interval
        self.validation_interval_steps = validation_interval_steps
        self.validation_interval_minutes = validation_interval_minutes
        intervals = [name for name in VALIDATION_INTERVALS if getattr(self, name) is not None]
        if len(intervals) > 1:
            raise RunError(several_intervals(intervals), remedy="choose one of them")
        self.validation_interval = validation_interval if intervals else 1
        self.steps_per_epoch = steps_per_epoch
        self._validation_loaders: Sequence[BatchLoader] = ()
        self._validation_times = ValidationTimes(
            self.progress,
            self.ranks,
            epochs=self.validation_interval,
            steps=validation_interval_steps,
            minutes=validation_interval_minutes,
        )
        self.max_num_checkpoints = max_num_checkpoints
        self.on_nonfinite: NonFinitePolicy = on_nonfinite
        self.max_nonfinite = max_nonfinite
        for suffix, scheduler in self.lr_schedulers.items():
            scheduler.check(save_max_score=save_max_score)
            scheduler.check_learning_rates(self.optimizers[suffix])

    # ------------------------------------------------------------------------------- training

    def train(self, loader: BatchLoader, validation_loaders: Sequence[BatchLoader] = ()) -> None:
        """Trains until `max_epochs` or `max_steps` is reached, or a hook gives a reason to stop."""
        self.fit_schedulers(loader)
        self._validation_loaders = validation_loaders
        with self._running("train"), self._reading():
            self._check_validation_sets(validation_loaders)
            self._unsaved = UnsavedTensors(self.modules)
            self._gradients.find_weights()  # hooks may have replaced or frozen weights
            self._warn_of_untrained_weights()
            self._validation_times.start()
            while (ending := self._ending()) is None:
                try:
                    is_over = self._train_epoch(loader)
                except RollbackRequest as request:
                    if not self.hooks.rollback(trainer=self, error=request.reason):
                        raise request.reason from None
                    self._endless = None  # the position in the data was rolled back too
                    self._validation_times.start()
                    continue
                except StopRequest as request:
                    ending = RunEnding("stopped", request.reason)
                    self.hooks.on_checkpoint_request(trainer=self, reason=request.reason)
                    break
                if is_over:
                    self._end_epoch()
                else:
                    self._end_within_epoch()
                    ending = self._out_of_steps
                    break
            self.ending = ending or RunEnding()
            progress = self.progress
            self.log.info("training is over", reason=self.ending.reason, epochs=progress.epoch, steps=progress.step)
            if progress.validated_step >= 0 and not progress.best_epoch:
                self._warn_without_best()

    def _check_validation_sets(self, loaders: Sequence[BatchLoader]) -> None:
        """Does nothing here. A subclass can check before the first step that it can evaluate the validation sets."""

    def fit_schedulers(self, loader: BatchLoader) -> None:
        """Passes the length of the training to the schedulers.

        Raises:
            RunError: a scheduler ends before the training, or needs its length in steps, which is unknown.
        """
        epoch_steps, batches = self.steps_per_epoch, loader.num_batches
        if epoch_steps is None and batches is not None:
            epoch_steps = math.ceil(batches / self.gradient_accumulation_steps)
        limits = (epoch_steps and self.max_epochs * epoch_steps, self.max_steps)
        steps = min((limit for limit in limits if limit is not None), default=None)
        for scheduler in self.lr_schedulers.values():
            scheduler.fit_to_training(epochs=self.max_epochs, steps=steps)

    def _ending(self) -> RunEnding | None:
        if self.progress.epoch >= self.max_epochs:
            return RunEnding("finished", f"max_epochs = {self.max_epochs} is reached")
        # Within an epoch, `_train_epoch` handles `max_steps`, so that the training ends with a validation.
        if (ending := self._out_of_steps) and not self.progress.batch:
            return ending
        reason = self._agreed("stop_reason")
        return RunEnding("stopped", reason) if reason else None

    def _agreed(self, hook: str) -> str | None:
        """Returns the answer of a hook. With several ranks, the lowest rank that has an answer decides."""
        reason: str | None = getattr(self.hooks, hook)(trainer=self)
        return self.ranks.first(reason) if self._turns and self.hooks.implements(hook) else reason

    @property
    def _out_of_steps(self) -> RunEnding | None:
        if self.max_steps is None or self.progress.step < self.max_steps:
            return None
        return RunEnding("finished", f"max_steps = {self.max_steps} is reached")

    def _train_epoch(self, loader: BatchLoader) -> bool:
        """Trains to the end of the epoch. Returns False if `max_steps` is reached before the end."""
        epoch = self.progress.epoch + 1
        self.clock.begin("rest")
        batches = self._begin_epoch(loader)
        self.scalars.begin()
        self._gradients.clear()
        self._window_open = False
        self.set_mode(training=True)
        if self._first_step_done:
            # The check is repeated below, because hooks can create weights too.
            self._gradients.check_no_new_weights()
        in_training = [section for section, module in self.modules.items() if module.training]
        self.hooks.on_epoch_start(trainer=self, epoch=epoch)
        self.hooks.leave_out_idle(self)
        self._gradients.find_weights()
        if self._turns:
            self._turns.share_weights(self.modules)
        is_over = True
        for batch_idx, item in enumerate(batches, start=self.progress.batch):
            # The validation waits until there is another batch. After the last batch, `_end_epoch` validates.
            if self.progress.batch and self.validation_is_due:
                self._validate_within_epoch(counts=True)
            if self._out_of_steps:
                is_over = False
                break
            self._train_batch(item, batch_idx, loader.samples if self._turns else 1)
            if not self._window_open and (reason := self._agreed("stop_within_epoch_reason")):
                self._complete_records()  # finds a loss that is not finite, which can cause a rollback
                raise StopRequest(reason)
        if self._window_open:
            self._optimizer_step()
        self._gradients.check_no_new_weights()
        self._warn_of_idle_optimizers(epoch)
        self._warn_if_evaluating(in_training)
        self._complete_records()
        if self._turns:
            self._turns.check_weights(self.modules)
        return is_over

    def _end_epoch(self) -> None:
        """Validates if it is due or if the training is over, records the epoch, and calls the hooks."""
        metrics = self._epoch_scalars()
        self.clock.begin("outside")
        self.progress.complete_epoch()
        epoch, validated = self.progress.epoch, {}
        is_due = self._validation_times.is_due()
        if self._validation_loaders and (is_due or epoch == self.max_epochs or self._out_of_steps):
            validated = self._validate_training(counts=is_due)
        self._step_schedulers("epoch")
        self._record_epoch(metrics | validated)
        if validated:
            self.hooks.on_validation_end(trainer=self, epoch=epoch, metrics=validated)
        self.hooks.on_epoch_end(trainer=self, epoch=epoch, metrics=metrics | validated)

    def _end_within_epoch(self) -> None:
        """Ends the training in the middle of an epoch.

        If the run is resumed with more steps, it continues the epoch as if the training had not ended here. So this
        method only validates, to find the `best` weights, and writes a record that a resumed run replaces.
        """
        metrics = self._epoch_scalars()
        if self._validation_loaders and self.progress.validated_step != self.progress.step:
            self._validate_within_epoch(counts=False)
        self._record_epoch(metrics)

    def _epoch_scalars(self) -> dict[str, float]:
        """Returns the scalars of the training steps of the current epoch."""
        epoch, steps = self.progress.epoch + 1, self.scalars.per_batch
        if not steps:
            raise RunError(
                f"no batch of epoch {epoch} was trained on: every batch was skipped by a hook, because its loss was "
                "not finite, or because its samples can't be read",
                remedy="check which hooks implement `skip_batch` (`audiozen hooks`), and the warnings above",
            )
        scalars = {**self.scalars.rates, **scalars_of(self.training_epoch_end, steps)}
        added = self.added_scalars("epoch_scalars", scalars, epoch=epoch)
        return add_prefix("train", {**scalars, **added})

    def _record_epoch(self, metrics: Mapping[str, float]) -> None:
        # The record of the last step is part of the record of the epoch, so that a resumed run replaces both.
        newest = self.scalars.last_record if self.progress.step < self.log_interval else None
        record = {**metrics, **(add_prefix("step", newest.metrics) if newest else {})}
        step, epoch = self.progress.step, self.progress.current_epoch
        self.hooks.on_log(trainer=self, mode="train", metrics=record, step=step, epoch=epoch)

    # ------------------------------------------------------------------------------- validation

    @property
    def validation_is_due(self) -> bool:
        """Whether a validation is due after the latest optimiser step."""
        return bool(self._validation_loaders) and self.between_steps and self._validation_times.is_due()

    def _optimizer_step(self) -> None:
        super()._optimizer_step()
        self._validation_times.note_step()

    def _validate_training(self, *, counts: bool) -> dict[str, float]:
        """Validates between two training steps, without an effect on the training. Returns the scalars.

        Args:
            counts: whether the validation was due. If not, schedulers and `patience` ignore it.
        """
        self.clock.begin("outside")
        with kept_generators():
            score, scalars = self._validate(self._validation_loaders, counts=counts)
        self.progress.validated_step = self.progress.step
        if counts:
            self._validation_times.restart()
            self._step_schedulers("validation", score)
        return scalars

    def _validate_within_epoch(self, *, counts: bool) -> None:
        """Validates in the middle of an epoch, and records the scalars."""
        self._complete_records()  # finds a loss that is not finite, which can cause a rollback
        data = self.batch_size, self.participants.batches_from
        with self.kept_modes():
            metrics = self._validate_training(counts=counts)
        self.clock.begin("rest")
        self.batch_size, self.participants.batches_from = data
        self._gradients.check_no_new_weights()
        step, epoch = self.progress.step, self.progress.current_epoch
        self.hooks.on_log(trainer=self, mode="train", metrics=metrics, step=step, epoch=epoch)
        self.hooks.on_validation_end(trainer=self, epoch=epoch, metrics=metrics)
        if counts and (reason := self._agreed("stop_reason")):
            raise StopRequest(reason)


if TYPE_CHECKING:

    def _satisfies_the_protocol(trainer: BaseTrainer) -> Trainer:
        """Makes the type checker verify that `BaseTrainer` satisfies the protocol `Trainer` that hooks use."""
        return trainer
