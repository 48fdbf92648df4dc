"""Every hook of the lifecycle: when it runs, which arguments it gets, and what its answer means.

A hook implementation is a method marked with `hookimpl`, in a class that a TOML file names under `[[hooks]]`. The
method gets the arguments that it names. Hook plugins are called in the order of `PHASES`; the attribute `phase` of a
class is `monitor` by default. Within a phase, plugins are sorted by `before` and `after`, and then by name. Checkpoints
contain the state of a class with `state_dict` and `load_state_dict`. Both may take an argument `trainer`.

The return annotation of a hook says what an implementation may return (see `answers`). The types of `hookimpl` are
generated from the annotations (see `marker.pyi`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pluggy

from audiozen_core.kinds import Mode

if TYPE_CHECKING:
    import torch

    from audiozen_core.hooks.ending import RunEnding
    from audiozen_core.hooks.nonfinite import NonFiniteAnswer, NonFiniteError
    from audiozen_core.results.samples import Sample

# A type variable, because `trainer_protocol` imports `Hooks`, and importing its `Trainer` here would be circular.
Trainer = TypeVar("Trainer")
Specs = TypeVar("Specs")
PROJECT = "audiozen"
hookspec = pluggy.HookspecMarker(PROJECT)
"""Marks a method as a hook that a plugin provides and that other plugins can implement."""


class Hooks(Generic[Trainer]):
    """Declares every hook as a method. `trainer.hooks` has each hook as a callable that takes keyword arguments only.

    If only the first answer of a hook counts, the call returns this answer, or None if no plugin has an answer.
    """

    def plugin_hooks(self, hooks: type[Specs]) -> Specs:
        """Returns the hooks of a plugin, as callables: `trainer.hooks.plugin_hooks(AcmeHooks).on_mix(snr=3.0)`."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------ the run
    @hookspec
    def on_component_built(self, section: str, component: Any) -> Any:
        """A component has been built, and nothing uses it yet.

        Called once for each model, loss function, optimiser, scheduler, data set, loader and trainer.

        Args:
            section: the section, such as `model_g`, `trainer`, or `train_dataset.dataloader`.
            component: the object.

        Returns:
            An object that replaces the component, or None to keep it. The next plugin gets the returned object. A model
            must stay a `torch.nn.Module`, an optimiser a `torch.optim.Optimizer`, a data set a `Dataset`.
        """

    @hookspec
    def on_setup(self, trainer: Trainer) -> None:
        """Everything is built, nothing is written yet, and in all modes except `train`, the weights are loaded.

        Called once for each mode. Each mode builds its own hooks. Register your own state for the checkpoints here:
        `trainer.state.register("ema", ema)`. A resumed run, `validate`, `test` and `predict` restore this state from
        the checkpoint, or end with an error. A new run of `train` or `finetune` starts with a new state. Open files in
        `on_run_start`, because `audiozen.load_run` and `check --build` call neither `on_run_start` nor `on_teardown`.
        """

    @hookspec
    def on_run_start(self, trainer: Trainer, mode: Mode) -> None:
        """A mode begins. Everything is built. If the run starts from a checkpoint, the checkpoint is loaded."""

    @hookspec
    def on_run_end(self, trainer: Trainer, mode: Mode, ending: RunEnding) -> None:
        """A mode has ended without an error; `ending` says whether it finished, or why a hook stopped it."""

    @hookspec
    def on_exception(self, trainer: Trainer, error: BaseException) -> None:
        """The run is about to end because of an error or Ctrl-C. The trainer raises the error again after this hook."""

    @hookspec
    def on_teardown(self, trainer: Trainer, ending: RunEnding) -> None:
        """The last call of a mode, after success or failure: close files here. `ending` says how the mode ended."""

    # ------------------------------------------------------------------------------------------ training
    @hookspec
    def on_epoch_start(self, trainer: Trainer, epoch: int) -> None:
        """A training epoch begins; `epoch` counts from 1."""

    @hookspec(firstresult=True)
    def skip_batch(self, trainer: Trainer, batch_idx: int) -> bool | None:
        """Decides whether to skip a training batch; called before the batch is copied to the device.

        A skipped batch counts as completed, but nothing is computed for it, and the weights do not change. The samples
        of the batch are read in any case, because data loader workers read ahead.

        Args:
            trainer: the trainer; the batch belongs to epoch `trainer.progress.epoch + 1`.
            batch_idx: the index of the batch in the epoch, from 0.

        Returns:
            True to skip the batch, None or False to let other hooks decide.
        """

    @hookspec
    def on_training_step_start(self, trainer: Trainer, batch: Any, batch_idx: int) -> None:
        """A batch has been copied to the device, and `training_step` is about to be called."""

    @hookspec(firstresult=True)
    def autocast(self, trainer: Trainer) -> AbstractContextManager[Any] | None:
        """Provides the context for the forward pass and the loss; called before each step of any mode.

        Returns:
            A context manager, or None to let other hooks decide.
        """

    @hookspec(firstresult=True)
    def backward(
        self, trainer: Trainer, loss: torch.Tensor, inputs: list[torch.Tensor] | None, last: bool
    ) -> bool | None:
        """Back-propagates one loss. The loss is already divided by `gradient_accumulation_steps`.

        Args:
            trainer: the trainer.
            loss: a scalar.
            inputs: the parameters that get gradients, if several networks are trained; None for all parameters.
            last: whether this is the last loss of the batch. Earlier losses need `retain_graph=True`, because the
                losses may share parts of one graph.

        Returns:
            True if the hook has computed the gradients, None to leave this to other hooks. If all hooks return None,
            the trainer calls `loss.backward()`.
        """

    @hookspec
    def on_gradients_ready(self, trainer: Trainer) -> None:
        """All gradients of an optimiser step are complete.

        Hooks of the phase `precision` unscale the gradients (AMP), and hooks of the phase `gradient` clip them. To
        change the gradients before they are clipped, use the phase `precision`; to change them afterwards, use `step`.
        """

    @hookspec(firstresult=True)
    def optimizer_step(self, trainer: Trainer, optimizer: torch.optim.Optimizer) -> bool | None:
        """One optimiser is about to take its step.

        Returns:
            True if the hook has taken the step or skipped it on purpose; None to leave the step to other hooks.
        """

    @hookspec
    def step_scalars(self, trainer: Trainer, step: int) -> Mapping[str, float] | None:
        """Adds scalars to the record of a step, as `step/…`; called for the steps that `log_interval` divides.

        Returns:
            The scalars by name, or None. It is an error to use the name of a learning rate or of another hook's scalar.
            If the training step has a scalar of that name, its value is recorded, and the hook's is dropped. With
            several processes, only the main process records scalars.
        """

    @hookspec
    def on_optimizer_step_end(self, trainer: Trainer, step: int) -> None:
        """All optimisers have stepped and the gradients are cleared; `step` counts from 1."""

    @hookspec
    def on_training_step_end(self, trainer: Trainer, batch: Any, batch_idx: int, outputs: Mapping[str, Any]) -> None:
        """A batch has been completed or skipped.

        Args:
            trainer: the trainer.
            batch: the batch, on the device; None if the batch was skipped or could not be read.
            batch_idx: the index of the batch in the epoch, from 0.
            outputs: the detached results of `training_step`; empty if the batch was skipped. Read the values rarely,
                because reading a value makes the CPU wait for the GPU.
        """

    @hookspec(firstresult=True)
    def stop_within_epoch_reason(self, trainer: Trainer) -> str | None:
        """Decides whether to stop training within an epoch; called after each optimiser step.

        Before training stops, a checkpoint is saved, without a validation. A resumed run continues with the next batch.

        Returns:
            The reason to stop, as text for messages, or None to continue.
        """

    @hookspec
    def epoch_scalars(self, trainer: Trainer, epoch: int) -> Mapping[str, float] | None:
        """Adds scalars to the record of an epoch; called after the last step of the epoch, before its validation.

        In records, their names begin with `train/`, like the epoch means of the training steps' scalars. Do not change
        state here, because a resumed run calls this hook again if the validation was interrupted or `max_steps` ended
        the epoch early. To count something per epoch, reset the count in `on_epoch_start`, but only if
        `trainer.progress.batch` is 0; otherwise a resumed run is continuing the epoch.

        Args:
            trainer: the trainer.
            epoch: the epoch, counted from 1.

        Returns:
            The scalars by name, or None. A name that the trainer or another hook also uses is an error.
        """

    @hookspec
    def on_validation_end(self, trainer: Trainer, epoch: int, metrics: Mapping[str, float]) -> None:
        """A validation during training has ended and is recorded, and the schedulers have used its score.

        Within an epoch (`trainer.progress.batch` is not 0), checkpoints are saved here; at its end, in `on_epoch_end`.
        """

    @hookspec
    def on_epoch_end(self, trainer: Trainer, epoch: int, metrics: Mapping[str, float]) -> None:
        """An epoch has ended, including its validation. Checkpoints are saved here, in the phase `persist`.

        If `max_steps` ends training within an epoch, this hook is not called: a resumed run continues the epoch.

        Args:
            trainer: the trainer; `trainer.progress` says whether this epoch is the best so far.
            epoch: the epoch, counted from 1.
            metrics: the scalars of this epoch, such as `train/loss` and `validate/score`.
        """

    @hookspec(firstresult=True)
    def on_nonfinite(self, trainer: Trainer, error: NonFiniteError) -> NonFiniteAnswer | None:
        """A loss or gradient is NaN or infinite. Decides how the run continues.

        Args:
            trainer: the trainer.
            error: says which loss or gradient is not finite; `error.location` names the batches that caused it.

        Returns:
            "skip" to skip the batches. Your hook must then restore buffers that the forward pass changed, and must set
            `trainer.scalars.read_at_once`. "rollback" to restore the last checkpoint, with the hook `rollback`. None to
            let other hooks decide. If all hooks return None, the run ends with the error.
        """

    @hookspec(firstresult=True)
    def rollback(self, trainer: Trainer, error: Exception) -> bool | None:
        """Restores the last checkpoint after a hook answers "rollback" to `on_nonfinite` or raises `RollbackRequest`.

        Args:
            trainer: the trainer; `load_checkpoint` restores a state.
            error: the error that makes the rollback necessary.

        Returns:
            True if the hook has restored a checkpoint, None to leave this to other hooks. If all hooks return None, the
            run ends with the error.
        """

    @hookspec
    def on_rollback(self, trainer: Trainer) -> None:
        """The run has returned to an earlier state. Remove your records of steps after `trainer.progress.step`."""

    @hookspec(firstresult=True)
    def stop_reason(self, trainer: Trainer) -> str | None:
        """Decides whether to stop training; called before each epoch, and after a validation within an epoch.

        Returns:
            The reason to stop, as text for messages, or None to continue.
        """

    # ------------------------------------------------------------------------------------------ evaluation
    @hookspec
    def on_evaluation_start(self, trainer: Trainer, mode: Mode, num_batches: int | None) -> None:
        """Validation, test or prediction begins; `num_batches` is None if a data set has no length."""

    @hookspec
    def on_evaluation_step_end(
        self,
        trainer: Trainer,
        mode: Mode,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
        outputs: Any,
        signals: Sequence[Mapping[str, torch.Tensor]],
    ) -> None:
        """A batch of an evaluation has been completed.

        Args:
            trainer: the trainer.
            mode: `validate`, `test` or `predict`.
            batch: the batch, on the device.
            batch_idx: the index of the batch in the data set, from 0.
            dataloader_idx: the index of the data set; `trainer.dataset_name(mode, dataloader_idx)` is its name.
            outputs: a copy of the results of the step.
            signals: one mapping for each file of the batch, from name to signal [time] on the CPU: the signals that the
                step passed to the trainer's `show`, under names that the trainer chooses. The signals are freed after
                the call unless a hook stores them. To get signals in validations only, set
                `signal_modes = ("validate",)` in your class.
        """

    @hookspec
    def evaluation_scalars(self, trainer: Trainer, mode: Mode) -> Mapping[str, float] | None:
        """Adds scalars to the record of an evaluation; called after the last batch of the evaluation.

        In records, their names begin with the mode, such as `validate/`. `monitor` in `[trainer.args]` can name a
        scalar of the validation. This scalar then decides which epoch is the best, and when `patience` stops training.

        Args:
            trainer: the trainer.
            mode: `validate` or `test`.

        Returns:
            The scalars by name, or None. A name that the trainer or another hook also uses is an error.
        """

    @hookspec
    def on_evaluation_end(
        self, trainer: Trainer, mode: Mode, score: float | None, metrics: Mapping[str, float]
    ) -> None:
        """An evaluation has ended.

        Args:
            trainer: the trainer.
            mode: `validate`, `test` or `predict`.
            score: the score of a validation; None in the other modes.
            metrics: all scalars of the evaluation.
        """

    @hookspec
    def on_evaluation_abandoned(self, trainer: Trainer, mode: Mode) -> None:
        """A signal or an error ends an evaluation early. Undo changes that you made in `on_evaluation_start`.

        A checkpoint may be saved next. If no plugin fails in `on_evaluation_start`, every evaluation ends with this
        hook or with `on_evaluation_end`. If a plugin fails in `on_evaluation_end`, later plugins get neither call.
        """

    @hookspec
    def on_best_found(self, trainer: Trainer, score: float) -> None:
        """The validation has reached the best score so far. The checkpoint is saved after the validation."""

    # ------------------------------------------------------------------------------------------ records
    @hookspec
    def on_log(self, trainer: Trainer, mode: Mode, metrics: Mapping[str, float], step: int, epoch: int) -> None:
        """The run has scalars to record.

        Args:
            trainer: the trainer.
            mode: `train` for training, including its validations; `validate` or `test` if this mode runs alone.
            metrics: the scalars by name, such as `step/loss`, `train/loss`, `validate/si_sdr` or `test/pesq`.
            step: the number of optimiser steps taken so far.
            epoch: the epoch, counted from 1; 0 before training.
        """

    @hookspec
    def on_samples(self, trainer: Trainer, samples: Sequence[Sample], step: int, epoch: int) -> None:
        """A hook has written samples to `trainer.folder / "samples"`; called on the main process only."""

    @hookspec
    def on_state_collect(self, trainer: Trainer) -> None:
        """The state is about to be read for a checkpoint. Change it if the checkpoint should contain other weights."""

    @hookspec
    def on_checkpoint_save(self, trainer: Trainer, extra: dict[str, Any]) -> None:
        """A checkpoint is about to be written. Add your data to `extra`, a separate dict for each hook plugin."""

    @hookspec
    def on_state_collected(self, trainer: Trainer) -> None:
        """The state has been copied for a checkpoint, or copying failed. Undo your changes from `on_state_collect`."""

    @hookspec(firstresult=True)
    def skip_checkpoint_reason(self, trainer: Trainer, epoch: int) -> str | None:
        """Decides whether to skip a checkpoint; called before the checkpoint is written.

        Returns:
            The reason to skip the checkpoint, as text for messages, or None to write it.
        """

    @hookspec
    def on_checkpoint_request(self, trainer: Trainer, reason: str) -> None:
        """A hook requests a checkpoint. When the call returns, the checkpoint is on the disk.

        Call `trainer.hooks.on_checkpoint_request(trainer=trainer, reason="…")` only if `trainer.between_steps` is true.
        """

    @hookspec
    def on_checkpoint_saved(self, trainer: Trainer, folder: Path, is_best: bool) -> None:
        """A checkpoint is complete on the disk, in `folder`."""

    @hookspec
    def on_checkpoint_load(self, trainer: Trainer, extra: Mapping[str, Any]) -> None:
        """A checkpoint has been read for a resumed run or an evaluation, and is about to be restored.

        `extra` contains the data that this hook plugin saved in `on_checkpoint_save`; it is empty if no data was saved.
        """
