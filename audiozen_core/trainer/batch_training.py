"""Trains on batches: forward pass, backward pass, optimiser step."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from audiozen_core.data.tensors import map_tensors
from audiozen_core.data.unreadable import UnreadablePolicy
from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import AudioZenError, HookError
from audiozen_core.hooks.nonfinite import NonFiniteError, RollbackRequest
from audiozen_core.kinds import section_name, split_section
from audiozen_core.registry.entry import FIRST_PARTY
from audiozen_core.trainer.checkpointed import CheckpointedTrainer
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.epoch_ends import add_prefix
from audiozen_core.trainer.evaluation import NO_CONTEXT
from audiozen_core.trainer.gradients import Gradients
from audiozen_core.trainer.learning_rates import LearningRates
from audiozen_core.trainer.losses import LossChoice
from audiozen_core.trainer.nonfinite import MeasuredGradients
from audiozen_core.trainer.part_errors import add_samples, explain_backward_error, explain_step_error
from audiozen_core.trainer.sharded_gradients import ShardedGradients
from audiozen_core.trainer.state import RandomState, StateRegistry
from audiozen_core.trainer.step_clock import step_clock
from audiozen_core.trainer.step_scalars import StepScalars
from audiozen_core.trainer.turns import Turns
from audiozen_core.trainer.unsaved_tensors import UnsavedTensors


class BatchTraining(CheckpointedTrainer):
    """The part of a trainer that trains on batches. The docstring of `BaseTrainer` explains the arguments."""

    clip_grad_norm_value: float | None = None

    def __init__(
        self,
        components: Components,
        *,
        monitor: str,
        save_max_score: bool,
        gradient_accumulation_steps: int,
        plot_norm: bool,
        log_interval: int,
        on_bad_data: UnreadablePolicy,
        max_bad_data: int,
    ) -> None:
        super().__init__(
            components,
            monitor=monitor,
            save_max_score=save_max_score,
            on_bad_data=on_bad_data,
            max_bad_data=max_bad_data,
        )
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.plot_norm = plot_norm
        self.log_interval = log_interval
        self.num_batches: int | None = None
        self.loss_is_scaled = False
        self.grad_norm: Tensor | None = None
        self.clock = step_clock(self.device)
        parts = {suffix: self.modules_of(suffix) for suffix in self.models}
        self._gradients = Gradients(parts, self.optimizers, self.gradient_accumulation_steps, self.ranks)
        changing = self.hooks.order("on_gradients_ready")
        self._hooks_take_outputs = self.hooks.uses_argument("on_training_step_end", "outputs")
        self._only_own_hooks = all(plugin.distribution == FIRST_PARTY for plugin in changing)
        # With several ranks, a loss that is not finite on one rank is handled on all ranks.
        self._turns: Turns | None = None
        self._sharded: ShardedGradients | None = None
        if self.is_sharded:
            self._sharded = ShardedGradients(self.ranks, components.distributed, self.modules)
        if self.ranks.several:
            self._turns = Turns(self.ranks, components.distributed, self._gradients, self._ask_hooks, self._sharded)
        judge = self._turns.note if self._turns else self._ask_hooks
        self.scalars = StepScalars(self.progress, self.device, self.modules, judge)
        self.state = StateRegistry()
        self.state.register_components(components, self._as_trainer)
        self.state.register("progress", self.progress, training_only=True)
        self.state.register("scalars", self.scalars, training_only=True)
        self.state.register("unreadable", self.unreadable, training_only=True)
        self.state.register("rng", RandomState(self.ranks), training_only=True)
        self._learning_rates = LearningRates(self.optimizers)
        self._losses = LossChoice(f"{type(self).__name__}.training_step")
        # A window is the batches whose gradients are accumulated into one optimiser step.
        self._window_open = False
        self._first_step_done = False
        self._has_batch = False
        self._unsaved = UnsavedTensors({})
        # The optimisers that have taken a step in this epoch, and the optimisers whose steps were left to a hook.
        self._stepped: set[str] = set()
        self._left_to_hooks: set[str] = set()
        self._idle: set[str] = set()
        for suffix, optimizer in self.optimizers.items():
            optimizer.register_step_post_hook(lambda *_, stepped=suffix: self._stepped.add(stepped))

    def _train_batch(self, item: Any, batch_idx: int, samples: int) -> None:
        """Trains on one batch. Takes an optimiser step if the batch is the last of its window.

        Args:
            item: the batch; None if all its samples are unreadable, or if only other ranks have a batch in this turn.
            batch_idx: the index of the batch in the epoch, from 0.
            samples: the number of samples in the batch; used only with several ranks.
        """
        trainer, clock, done = self._as_trainer, self.clock, batch_idx + 1
        self._window_open = done % self.gradient_accumulation_steps != 0 and done != self.num_batches
        batch: Any = None
        losses: dict[str, Tensor] = {}
        outputs: dict[str, Any] = {}
        is_own = item is not None and not self.hooks.skip_batch(trainer=trainer, batch_idx=batch_idx)
        item = item if is_own else None
        if self._turns:
            item = self._turns.with_stand_in(item)
        if item is not None:
            clock.begin("transfer")
            batch = self.load_batch(item, "train", batch_idx)
            clock.begin("rest")
            self.hooks.on_training_step_start(trainer=trainer, batch=batch, batch_idx=batch_idx)
            clock.begin("forward")
            losses, outputs = self.forward_batch(batch, batch_idx)
            clock.begin("rest")
            if not is_own:
                batch, outputs, samples = None, {}, 0
            elif not self.scalars.add(outputs, losses=losses, batch_idx=batch_idx, batch=batch, samples=samples):
                losses = {}
        # Without detaching, the outputs would keep the graph of the step in memory.
        outputs = map_tensors(outputs, Tensor.detach) if self._hooks_take_outputs else {}
        if self._turns:
            agreed = self._turns.exchange_losses(losses, samples, last=not self._window_open)
            if agreed is None:
                self.scalars.leave_out(batch_idx)
            losses = agreed or {}
        self._has_batch = bool(losses)
        clock.begin("backward")
        try:
            if self._turns:  # while this rank waits for gradients, another rank may end
                with self.ranks.explained():
                    self.backward_losses(losses)
            else:
                self.backward_losses(losses)
        except AudioZenError as error:
            add_samples(error, batch)
            raise
        clock.begin("rest")
        if not self._window_open:
            self._optimizer_step()
        self.progress.complete_batch()
        self.hooks.on_training_step_end(trainer=trainer, batch=batch, batch_idx=batch_idx, outputs=outputs)

    def forward_batch(self, batch: Any, batch_idx: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Runs the forward pass. Returns the losses by name, and all outputs of the step, not detached."""
        if not self._first_step_done:
            self._gradients.find_weights()  # hooks may have replaced or frozen weights since the trainer was built
        autocast: AbstractContextManager[Any] | None = self.hooks.autocast(trainer=self._as_trainer)
        try:
            # This skips the `with`: even an empty one costs as much time as calling a hook.
            if autocast is None and self._sharded is None:
                result = self.training_step(batch, batch_idx)
            else:
                with autocast or NO_CONTEXT, self._sharded.explained() if self._sharded else NO_CONTEXT:
                    result = self.training_step(batch, batch_idx)
            losses = self._losses.choose(result, self._gradients.trained_suffixes)
        except Exception as error:
            explain_step_error(error, self.training_step, batch, batch_idx)
            raise
        if not self._first_step_done:
            self._gradients.check_no_new_weights()
            self._first_step_done = True
        outputs: dict[str, Any] = dict(result if type(result) is dict or isinstance(result, Mapping) else losses)
        for scalar, value in self.take_loss_scalars().items():
            outputs.setdefault(scalar, value)
        return losses, outputs

    def backward_losses(self, losses: Mapping[str, Tensor], *, ask_hooks: bool = True) -> None:
        """Back-propagates the losses that `forward_batch` returned, each to the weights that it trains.

        Args:
            losses: the losses by name.
            ask_hooks: whether the hook `backward` is called, which can back-propagate a loss instead.

        Raises:
            RunError: the backward pass failed, or a loss does not depend on the weights of its network.
            HookError: a hook returned True, but did not back-propagate the loss.
        """
        for count, (name, loss) in enumerate(losses.items(), start=1):
            suffix = name.removeprefix("loss_") if name != "loss" else None
            inputs = None if suffix is None else self._gradients.inputs(suffix)
            share = loss / self.gradient_accumulation_steps if self.gradient_accumulation_steps > 1 else loss
            # Several losses can share parts of a graph, so the graph is kept until the last loss.
            last = count == len(losses)
            if self._sharded:
                with self._sharded.only_of(inputs) as leaves:
                    done = self._back_propagate(name, share, leaves, last=last, ask_hooks=ask_hooks)
            else:
                done = self._back_propagate(name, share, inputs, last=last, ask_hooks=ask_hooks)
            if done and last and not self._sharded and not self._gradients.exist:
                raise HookError(
                    "a hook returned True from `backward`, but no weight has a gradient",
                    notes=[f"implemented by: {plugin}" for plugin in self.hooks.order("backward")],
                    remedy="return True from `backward` only after calling `loss.backward()`, otherwise None",
                )
            if suffix is not None:
                reached = self._sharded.has_used(inputs or ()) if self._sharded else None
                self._gradients.check_reached(suffix, reached=reached)
            self._gradients.count(self.models if suffix is None else [suffix])

    def _back_propagate(
        self, name: str, loss: Tensor, leaves: list[Tensor] | None, *, last: bool, ask_hooks: bool
    ) -> bool | None:
        """Back-propagates one loss to `leaves`, or to all weights if it is None. Returns whether a hook has done it."""
        if ask_hooks and self.hooks.backward(trainer=self._as_trainer, loss=loss, inputs=leaves, last=last):
            return True
        try:
            torch.autograd.backward(loss, inputs=leaves, retain_graph=not last)
        except Exception as error:
            explain_backward_error(error, name, self.participants)
            raise
        return False

    def _optimizer_step(self) -> None:
        """Closes the window and takes an optimiser step.

        If all batches of the window were skipped, the step is still counted, so that schedules don't shift.
        """
        trainer, clock = self._as_trainer, self.clock
        clock.end_step()
        if self._turns:
            self._turns.average()
        self._gradients.close_window()
        if self.scalars.add_gradients(self._look_through_gradients()) and self._gradients.present:
            self.hooks.on_gradients_ready(trainer=trainer)
            # With several ranks, only ranks that have the last batch of the window record the norm.
            if self.plot_norm and self.grad_norm is not None and (self._has_batch or not self._turns):
                self.scalars.add_grad_norm(self.grad_norm, may_overflow=self.loss_is_scaled)
            clock.begin("optimizer")
            self.step_optimizers()
            clock.begin("rest")
        elif self._turns:
            self._turns.handle_error()
        if self._turns:
            self._turns.share_buffers(self.modules)
        self._gradients.clear()
        self._window_open = False
        self.progress.step = step = self.progress.step + 1
        is_due = self.log_interval > 0 and step % self.log_interval == 0
        rates, added = self._learning_rates.current(), None
        if is_due:
            added = self.hooks.added_scalars("step_scalars", rates, trainer=trainer, step=step)
        self.scalars.close_step(step, rates, added)
        if self.lr_schedulers:
            self._step_schedulers("step")
        self.hooks.on_optimizer_step_end(trainer=trainer, step=step)
        if self._turns:
            if is_due:
                self._complete_records()
        elif self.scalars.has_records:
            self._log_steps()

    def _look_through_gradients(self) -> Mapping[str, MeasuredGradients]:
        """Returns the norms of the gradients; an empty dict if they are not needed and all gradients are finite."""
        if self.loss_is_scaled:  # an overflow is normal
            return {}
        if self.plot_norm or self.clip_grad_norm_value is not None:
            return self._gradients.measure()  # clipping and recording use the same norms
        return self._gradients.check()

    def step_optimizers(self, *, ask_hooks: bool = True) -> None:
        """Takes a step with each optimiser.

        Args:
            ask_hooks: whether the hook `optimizer_step` is called, which can take the step instead.

        Raises:
            RunError: an optimiser can't step.
        """
        for suffix, optimizer in self.optimizers.items():
            try:
                done = ask_hooks and self.hooks.optimizer_step(trainer=self._as_trainer, optimizer=optimizer)
                if not done:
                    optimizer.step()
            except Exception as error:
                self._gradients.explain_step_error(error, suffix, optimizer)
                raise
            if done:
                self._left_to_hooks.add(suffix)

    def _warn_of_untrained_weights(self) -> None:
        """Warns about weights that require gradients, but that no optimiser trains."""
        for section, names in self._gradients.untrained().items():
            partner = section_name("optimizer", (split_section(section) or ("", ""))[1])
            self.log.warning(
                f"no optimiser trains {len(names)} of the weights of [{section}] that require gradients",
                weights=listed(names),
                remedy=f"train them with [{partner}], or freeze them with `requires_grad_(False)`",
            )

    def _warn_of_idle_optimizers(self, epoch: int) -> None:
        """Warns once about each optimiser or network that was not trained in an epoch.

        An optimiser was not trained if hooks returned True from `optimizer_step` but it has not stepped. A network was
        not trained if none of its weights had a gradient.
        """
        for suffix in sorted(self._left_to_hooks - self._stepped - self._idle):
            self._idle.add(suffix)
            self.log.warning(
                f"[{section_name('optimizer', suffix)}] took no step in epoch {epoch}, because hooks returned True "
                "from `optimizer_step`: its weights have not changed",
                hooks=", ".join(map(str, self.hooks.order("optimizer_step"))),
            )
        self._stepped.clear()
        self._left_to_hooks.clear()
        for suffix in () if self.is_sharded else self._gradients.unreached():
            if suffix not in self._idle and suffix not in self.waiting_networks:
                self._idle.add(suffix)
                self.log.warning(
                    f"no weight of [{section_name('model', suffix)}] had a gradient in epoch {epoch}, so "
                    f"[{section_name('optimizer', suffix)}] trains nothing: no loss depends on this network"
                )

    def _log_steps(self) -> None:
        """Records the steps that are due and whose values were read. On a GPU, this can be a few steps later."""
        for record in self.scalars.take_records():
            if self.log_interval and record.step % self.log_interval == 0:
                metrics = add_prefix("step", record.metrics)
                self.hooks.on_log(
                    trainer=self._as_trainer, mode="train", metrics=metrics, step=record.step, epoch=record.epoch
                )

    def _step_schedulers(self, interval: str, score: float | None = None) -> None:
        for suffix, scheduler in self.lr_schedulers.items():
            scheduler.step(interval, score)
            scheduler.check_learning_rates(self.optimizers[suffix])

    def _ask_hooks(self, error: NonFiniteError) -> None:
        """Asks the hooks how to handle a loss or gradient that is not finite. Returns only if the batch is skipped."""
        error.notes = (*error.notes, *self._step_notes())
        answer = self.hooks.on_nonfinite(trainer=self._as_trainer, error=error)
        if answer == "rollback":
            raise RollbackRequest(error)
        # If the loss was read late, it has already changed the weights, and it is too late to skip the batch.
        if answer != "skip" or self.scalars.lag:
            raise error

    def trained_parameters(self, suffix: str) -> list[Tensor]:
        """Returns the parameters of a network and of its loss function that an optimiser changes."""
        return self._gradients.trained(suffix)

    def measure_gradients(self) -> dict[str, Tensor]:
        """Returns the norm of the current gradients of each network and its loss function, by suffix.

        The norms are scalars on the device. A network without gradients is left out.
        """
        # A third-party hook can change gradients without changing their version, for example through `.data`.
        measured = self._gradients.measured() if self._only_own_hooks else self._gradients.measure()
        return {suffix: gradients.total for suffix, gradients in measured.items()}

    @property
    def between_steps(self) -> bool:
        """Whether no gradients are being accumulated. Only then can the state be saved completely."""
        return not self._window_open

    def _complete_records(self) -> None:
        # A checkpoint may be saved now, and a run resumed from it starts with the next step, so all steps up to here
        # must be recorded first.
        self.scalars.flush()
        if self._turns:
            self._turns.handle_error()
            self.scalars.combine(self._turns.combine)
            self.unreadable.share(self.ranks)
        self._log_steps()

    def _warn_of_unsaved(self) -> None:
        self._unsaved.warn()
