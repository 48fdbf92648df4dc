"""The training loop: epoch, step, backward, optimiser step, validation. Everything else is a hook."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from audiozen_core.binding.ranges import Natural, Positive, Range, check_ranges
from audiozen_core.data.loader import BatchLoader
from audiozen_core.data.unreadable import UnreadablePolicy
from audiozen_core.errors import RunError
from audiozen_core.hooks.ending import RunEnding
from audiozen_core.hooks.nonfinite import NonFinitePolicy, RollbackRequest
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.trainer.batch_training import BatchTraining
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.epoch_ends import prefixed, scalars_of
from audiozen_core.trainer.stop_request import StopRequest
from audiozen_core.trainer.unsaved_tensors import UnsavedTensors


class BaseTrainer(BatchTraining):
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
        self.validation_interval = validation_interval
        self.max_num_checkpoints = max_num_checkpoints
        self.on_nonfinite: NonFinitePolicy = on_nonfinite
        self.max_nonfinite = max_nonfinite
        for suffix, scheduler in self.lr_schedulers.items():
            scheduler.check(save_max_score=save_max_score)
            scheduler.check_rates(self.optimizers[suffix])

    # ------------------------------------------------------------------------------- training

    def train(self, loader: BatchLoader, validation_loaders: Sequence[BatchLoader] = ()) -> None:
        """Trains until `max_epochs` or `max_steps` is reached, or a hook gives a reason to stop."""
        self.fit_schedulers(loader)
        validated = False
        with self._running("train"):
            self._check_validation_sets(validation_loaders)
            self._unsaved = UnsavedTensors(self.modules)
            self._gradients.find_weights()  # hooks may have changed some
            self._warn_of_untrained_weights()
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

    def _check_validation_sets(self, loaders: Sequence[BatchLoader]) -> None:
        """Looks at the validation sets before the first step; a first-party trainer finds here what it can't rate."""

    def fit_schedulers(self, loader: BatchLoader) -> None:
        """Tells the schedulers how long the training is. Raises RunError if one ends before it, or can't know it."""
        epochs, batches = self.max_epochs, loader.num_batches
        windows = None if batches is None else epochs * math.ceil(batches / self.gradient_accumulation_steps)
        steps = min((limit for limit in (windows, self.max_steps) if limit is not None), default=None)
        for scheduler in self.lr_schedulers.values():
            scheduler.fit_to_training(epochs=epochs, steps=steps)

    def _ending(self) -> RunEnding | None:
        if self.progress.epoch >= self.max_epochs:
            return RunEnding("finished", f"max_epochs = {self.max_epochs} is reached")
        # In the middle of an epoch, `_train_epoch` ends the epoch early, so that it is still validated.
        if self._out_of_steps and not self.progress.batch:
            return RunEnding("finished", f"max_steps = {self.max_steps} is reached")
        reason = self._agreed("stop_reason")
        return RunEnding("stopped", reason) if reason else None

    def _agreed(self, hook: str) -> str | None:
        """Returns the answer of a hook: with several ranks, that of the lowest rank that has one."""
        reason: str | None = getattr(self.hooks, hook)(trainer=self)
        return self.ranks.first(reason) if self.ranks.several and self.hooks.implements(hook) else reason

    @property
    def _out_of_steps(self) -> bool:
        return self.max_steps is not None and self.progress.step >= self.max_steps

    def _train_epoch(self, loader: BatchLoader) -> dict[str, float]:
        epoch = self.progress.epoch + 1
        start = self.progress.resumed_batch(self.ranks.size, self.gradient_accumulation_steps)
        # A sampler may give another number of batches in each epoch, so it is told the epoch first.
        others = self.progress.ranks != self.ranks.size
        batches = self.batches(loader, epoch, start=start, may_lack=self.progress.ranks - 1 if others else 0)
        self.num_batches = loader.num_batches
        if self._turns:
            batches = self._turns.in_turns(batches, start, self.num_batches, drop_last=loader.drop_last)
        self.progress.begin_epoch(start, self.num_batches, loader.stream_workers, self.ranks.size)
        self.scalars.begin()
        self._gradients.clear()
        self._window_open = False
        self.set_mode(training=True)
        if self._first_step_done:
            self._gradients.check_no_new_weights()  # a validation may have made some, and hooks still may
        in_training = [section for section, module in self.modules.items() if module.training]
        self.hooks.on_epoch_start(trainer=self, epoch=epoch)
        self._gradients.find_weights()
        if self._turns:
            self._turns.share_weights(self.modules)
        for batch_idx, item in enumerate(batches, start=start):
            if self._out_of_steps:
                break
            self._train_batch(item, batch_idx, loader.samples if self._turns else 1)
            if not self._window_open and (reason := self._agreed("stop_within_epoch_reason")):
                self._complete_records()  # a loss that is not finite may still ask for a rollback
                raise StopRequest(reason)
        if self._window_open:
            self._optimizer_step()
        self._gradients.check_no_new_weights()
        self._warn_of_idle_optimizers(epoch)
        self._warn_if_evaluating(in_training)
        self._complete_records()
        if self._turns:
            self._turns.check_weights(self.modules)
        steps = self.scalars.per_batch
        if not steps:
            raise RunError(
                f"no batch of epoch {epoch} was trained on: each was left out, by a hook, or because its loss was not "
                "finite, or because its samples can't be read",
                remedy="check which hooks implement `skip_batch` (`audiozen hooks`), and the warnings above",
            )
        scalars = {**self.scalars.rates, **scalars_of(self.training_epoch_end, steps)}
        added = self.added_scalars("epoch_scalars", scalars, epoch=epoch)
        return prefixed("train", {**scalars, **added})


if TYPE_CHECKING:

    def _satisfies_the_protocol(trainer: BaseTrainer) -> Trainer:
        """Proves to the type checker that hooks find everything that `Trainer` promises."""
        return trainer
