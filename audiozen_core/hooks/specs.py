"""Every hook of the lifecycle: when it runs, which arguments it gets, and what its answer means.

A hook implementation is a method marked with `hookimpl`, in a class that a TOML file names under `[[hooks]]`. It takes
the arguments that it needs, by name:

    from audiozen import hookimpl

    class Announce:
        @hookimpl
        def on_epoch_end(self, trainer, epoch):
            print(f"epoch {epoch} is over")

Hooks run by the `phase` of their class, in the order of `PHASES` (default `monitor`), within a phase as the attributes
`before` and `after` of the classes say, and otherwise by name. If a class has `state_dict` and `load_state_dict`,
checkpoints hold its state. Either may take the trainer as a further argument called `trainer`.

The return annotation of a hook says what an implementation may return (`answers`), and all annotations become the types
of `hookimpl` (`marker.pyi`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pluggy

from audiozen_core.hooks.marker import HookMarker
from audiozen_core.kinds import Mode

if TYPE_CHECKING:
    import torch

    from audiozen_core.hooks.ending import RunEnding
    from audiozen_core.hooks.nonfinite import NonFiniteAnswer, NonFiniteError
    from audiozen_core.results.samples import Sample

# A variable, because this module can't import `trainer_protocol.Trainer`, which has hooks itself and fills it in.
Trainer = TypeVar("Trainer")
Specs = TypeVar("Specs")
PROJECT = "audiozen"
hookspec = pluggy.HookspecMarker(PROJECT)
"""Marks a method as a hook that a plugin brings, and that other plugins implement."""


class Hooks(Generic[Trainer]):
    """Every hook as a method; `trainer.hooks` has each of them as a callable that takes keyword arguments only.

    A hook whose first answer counts returns that answer, or None.
    """

    def of(self, hooks: type[Specs]) -> Specs:
        """Returns the hooks that a plugin brings, as callables: `trainer.hooks.of(AcmeHooks).on_mix(snr=3.0)`."""
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
            An object to use in its place, or None to keep it. Each plugin gets what the previous one returned. A model
            must stay a `torch.nn.Module`, an optimiser a `torch.optim.Optimizer`, a data set a `Dataset`.
        """

    @hookspec
    def on_setup(self, trainer: Trainer) -> None:
        """Everything is built, and nothing is written yet. A training has loaded nothing, other modes their weights.

        Called once for each mode, on hooks that are built for this mode. Register your own state for the checkpoints
        here: `trainer.state.register("ema", ema)`. A resume, `validate`, `test` and `predict` restore it from the
        checkpoint that they start from, or end with an error; a new training and `finetune` start with a new state.
        Open files in `on_run_start`, not here: `audiozen.load_run` and `audiozen check --build` call this hook, but
        neither `on_run_start` nor `on_teardown`.
        """

    @hookspec
    def on_run_start(self, trainer: Trainer, mode: Mode) -> None:
        """A mode begins: everything is built, and the checkpoint to start from, if any, is loaded."""

    @hookspec
    def on_run_end(self, trainer: Trainer, mode: Mode, ending: RunEnding) -> None:
        """A mode has ended without an error; `ending` says whether it is finished or a hook has stopped it, and why."""

    @hookspec
    def on_exception(self, trainer: Trainer, error: BaseException) -> None:
        """The run is about to end with an error or with Ctrl-C, which is raised again afterwards."""

    @hookspec
    def on_teardown(self, trainer: Trainer, ending: RunEnding) -> None:
        """The last call of a mode, after success and after failure: close files here. `ending` says how it ended."""

    # ------------------------------------------------------------------------------------------ training
    @hookspec
    def on_epoch_start(self, trainer: Trainer, epoch: int) -> None:
        """A training epoch begins; `epoch` counts from 1."""

    @hookspec(firstresult=True)
    def skip_batch(self, trainer: Trainer, batch_idx: int) -> bool | None:
        """Decides whether to leave a training batch out; called before the batch is copied to the device.

        A batch that is left out counts as done, but nothing is computed for it and the weights do not change. Its
        samples have been read already: workers read ahead, so an earlier answer would depend on their number.

        Args:
            trainer: the trainer; the batch belongs to epoch `trainer.progress.epoch + 1`.
            batch_idx: the index of the batch in the epoch, from 0.

        Returns:
            True to leave the batch out, None or False to let other hooks decide.
        """

    @hookspec
    def on_training_step_start(self, trainer: Trainer, batch: Any, batch_idx: int) -> None:
        """A batch is on the device and `training_step` comes next."""

    @hookspec(firstresult=True)
    def autocast(self, trainer: Trainer) -> AbstractContextManager[Any] | None:
        """Provides the context in which the forward pass and the loss run; called before each step of any mode.

        Returns:
            A context manager, or None to let other hooks decide.
        """

    @hookspec(firstresult=True)
    def backward(
        self, trainer: Trainer, loss: torch.Tensor, inputs: list[torch.Tensor] | None, last: bool
    ) -> bool | None:
        """Back-propagates one loss, already divided by `gradient_accumulation_steps`.

        Args:
            trainer: the trainer.
            loss: a scalar.
            inputs: the parameters that get gradients, if several networks are trained; None for all.
            last: whether it is the last loss of the batch. The others need `retain_graph=True`, because the losses may
                share parts of one graph.

        Returns:
            True if the hook has done it, None to let others do it. If all return None, the trainer calls
            `loss.backward()`.
        """

    @hookspec
    def on_gradients_ready(self, trainer: Trainer) -> None:
        """All gradients of an optimiser step are complete. `precision` unscales them (AMP); `gradient` clips them.

        To change the gradients before they are clipped, use the phase `precision`; afterwards, `step`.
        """

    @hookspec(firstresult=True)
    def optimizer_step(self, trainer: Trainer, optimizer: torch.optim.Optimizer) -> bool | None:
        """One optimiser is about to take its step.

        Returns:
            True if the hook has taken the step, or left it out on purpose; None to let others do it.
        """

    @hookspec
    def on_optimizer_step_end(self, trainer: Trainer, step: int) -> None:
        """All optimisers have stepped and the gradients are cleared; `step` counts from 1."""

    @hookspec
    def on_training_step_end(self, trainer: Trainer, batch: Any, batch_idx: int, outputs: Mapping[str, Any]) -> None:
        """A batch is done, or has been left out.

        Args:
            trainer: the trainer.
            batch: the batch, on the device; None if it was left out or could not be read.
            batch_idx: the index of the batch in the epoch, from 0.
            outputs: what `training_step` returned, detached; empty if the batch was left out. Reading a value makes the
                GPU wait, so do it rarely.
        """

    @hookspec(firstresult=True)
    def stop_within_epoch_reason(self, trainer: Trainer) -> str | None:
        """Decides whether to stop training after an optimiser step, within the epoch; called after each one.

        A checkpoint is saved, and nothing is validated. A resume continues with the next batch.

        Returns:
            The reason to stop, in words, or None to continue.
        """

    @hookspec
    def epoch_scalars(self, trainer: Trainer, epoch: int) -> Mapping[str, float] | None:
        """Adds scalars to the record of an epoch; called after its last step, before its validation.

        They are recorded with the prefix `train/`, like those of the training steps. A run that is resumed calls this
        again if the validation was interrupted or `max_steps` had ended the epoch early: change no state here. Clear
        what you count for an epoch in `on_epoch_start`, if `trainer.progress.batch` is 0.

        Args:
            trainer: the trainer.
            epoch: counts from 1.

        Returns:
            Name to value, or None. A name that the trainer or another hook uses too is an error.
        """

    @hookspec
    def on_validation_end(self, trainer: Trainer, epoch: int, metrics: Mapping[str, float]) -> None:
        """A validation of a training is over and recorded, and schedulers have got its score in `metrics`.

        Within an epoch (`trainer.progress.batch` is not 0) a checkpoint is saved here. Else `on_epoch_end` follows.
        """

    @hookspec
    def on_epoch_end(self, trainer: Trainer, epoch: int, metrics: Mapping[str, float]) -> None:
        """An epoch is over, including its validation. Checkpoints are saved here, in the phase `persist`.

        It is not called for an epoch in which `max_steps` ends the training: a resumed run continues that epoch.

        Args:
            trainer: the trainer; `trainer.progress` says whether this epoch is the best so far.
            epoch: counts from 1.
            metrics: the scalars of this epoch, such as `train/loss` and `validate/score`.
        """

    @hookspec(firstresult=True)
    def on_nonfinite(self, trainer: Trainer, error: NonFiniteError) -> NonFiniteAnswer | None:
        """A loss or gradient is NaN or infinite. Decides how the run continues.

        Args:
            trainer: the trainer.
            error: says which loss or gradient is not finite; `error.location` has the batches that it comes from.

        Returns:
            "skip" to leave the batches out; your hook then has to restore buffers that the forward pass has changed,
            and needs `trainer.scalars.read_at_once`. "rollback" to restore the last checkpoint, through the hook
            `rollback`. None to let other hooks decide. If all return None, the run ends with the error.
        """

    @hookspec(firstresult=True)
    def rollback(self, trainer: Trainer, error: Exception) -> bool | None:
        """Restores the last checkpoint, after an answer "rollback" to `on_nonfinite` or an error `RollbackRequest`.

        Args:
            trainer: the trainer; `load_checkpoint` restores a state.
            error: the reason.

        Returns:
            True if the hook has restored a checkpoint, None to let others do it. If all return None, the run ends with
            the error.
        """

    @hookspec
    def on_rollback(self, trainer: Trainer) -> None:
        """The run has returned to the earlier state in `trainer.progress`. Drop what you recorded after it."""

    @hookspec(firstresult=True)
    def stop_reason(self, trainer: Trainer) -> str | None:
        """Decides whether to stop training; called before each epoch, and after a validation within one.

        Returns:
            The reason to stop, in words, or None to continue.
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
        """One batch of an evaluation is done.

        Args:
            trainer: the trainer.
            mode: `validate`, `test` or `predict`.
            batch: the batch, on the device.
            batch_idx: the index of the batch in the data set, from 0.
            dataloader_idx: the index of the data set; `trainer.dataset_name(mode, dataloader_idx)` is its name.
            outputs: a copy of what the step returned.
            signals: the signals of each file of the batch by name, which the step showed with `self.show`. Those of
                `enhancement` are `noisy`, `enhanced` and, except in a prediction, `clean`, each [time] on the CPU.
                They are freed after the call unless a hook keeps them. `signal_modes = ("validate",)` spares others.
        """

    @hookspec
    def evaluation_scalars(self, trainer: Trainer, mode: Mode) -> Mapping[str, float] | None:
        """Adds scalars to the record of an evaluation; called after its last batch.

        They are recorded with the name of the mode as prefix, such as `validate/`. In a validation, `monitor` in
        `[trainer.args]` can name one of them. It then decides which epoch is the best, and when `patience` is over.

        Args:
            trainer: the trainer.
            mode: `validate` or `test`.

        Returns:
            Name to value, or None. A name that the trainer or another hook uses too is an error.
        """

    @hookspec
    def on_evaluation_end(
        self, trainer: Trainer, mode: Mode, score: float | None, metrics: Mapping[str, float]
    ) -> None:
        """An evaluation is over.

        Args:
            trainer: the trainer.
            mode: `validate`, `test` or `predict`.
            score: the score of a validation; None in the other modes.
            metrics: all scalars of the evaluation.
        """

    @hookspec
    def on_evaluation_abandoned(self, trainer: Trainer, mode: Mode) -> None:
        """An evaluation ends early, by a signal or an error: undo your changes of the state in `on_evaluation_start`.

        A checkpoint may be saved next. If no plugin has failed in `on_evaluation_start`, the evaluation ends with this
        hook or `on_evaluation_end`. If a plugin fails in the latter, the plugins after it get neither call.
        """

    @hookspec
    def on_best_found(self, trainer: Trainer, score: float) -> None:
        """The validation has reached the best score so far; the checkpoint is saved later, when it is over."""

    # ------------------------------------------------------------------------------------------ records
    @hookspec
    def on_log(self, trainer: Trainer, mode: Mode, metrics: Mapping[str, float], step: int, epoch: int) -> None:
        """There are scalars to record.

        Args:
            trainer: the trainer.
            mode: `train`, also for the validations of a training; `validate` or `test` if it runs alone.
            metrics: name to value, such as `step/loss`, `train/loss`, `validate/si_sdr` or `test/pesq`.
            step: the optimiser step, from 0.
            epoch: the epoch, from 0 before training.
        """

    @hookspec
    def on_samples(self, trainer: Trainer, samples: Sequence[Sample], step: int, epoch: int) -> None:
        """The hook `samples` has written files to `trainer.folder / "samples"`; called on the main process only."""

    @hookspec
    def on_state_collect(self, trainer: Trainer) -> None:
        """The state is about to be read for a checkpoint: change here what it is to hold, such as the weights."""

    @hookspec
    def on_checkpoint_save(self, trainer: Trainer, extra: dict[str, Any]) -> None:
        """A checkpoint is about to be written: put further data of your own into `extra`.

        Each hook has an `extra` of its own, empty at first.
        """

    @hookspec
    def on_state_collected(self, trainer: Trainer) -> None:
        """The state has been copied for a checkpoint, or copying has failed: undo the change of `on_state_collect`."""

    @hookspec(firstresult=True)
    def skip_checkpoint_reason(self, trainer: Trainer, epoch: int) -> str | None:
        """Decides whether to skip a checkpoint; called before it is written.

        Returns:
            The reason to skip the checkpoint, in words, or None to write it.
        """

    @hookspec
    def on_checkpoint_request(self, trainer: Trainer, reason: str) -> None:
        """A hook requests a checkpoint now. The checkpoint is on the disk when the call returns.

        Call `trainer.hooks.on_checkpoint_request(trainer=trainer, reason="…")` only if `trainer.between_steps` is true.
        """

    @hookspec
    def on_checkpoint_saved(self, trainer: Trainer, folder: Path, is_best: bool) -> None:
        """A checkpoint is complete on the disk, in `folder`."""

    @hookspec
    def on_checkpoint_load(self, trainer: Trainer, extra: Mapping[str, Any]) -> None:
        """A checkpoint has been read, to resume or to evaluate, and is about to be restored.

        `extra` holds what this hook put there in `on_checkpoint_save`; it is empty if that was nothing.
        """


hookimpl = HookMarker(PROJECT)
"""Marks a method as the implementation of a hook.

`@hookimpl` is for the hook of that name, `@hookimpl.on_epoch_end` names the hook, and `@hookimpl(wrapper=True)` marks a
wrapper.
"""
