"""Runs validation, test and prediction, and provides the methods that all modes share."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiozen_core.data.each_file import each_file
from audiozen_core.data.loader import BatchLoader, to_device
from audiozen_core.data.tensors import map_tensors
from audiozen_core.data.unreadable import UnreadablePolicy, UnreadableSamples
from audiozen_core.diagnostics.suggestions import nearest
from audiozen_core.distributed.sharding import whole_weights
from audiozen_core.errors import DataError, HookError, RunError
from audiozen_core.hooks.ending import RunEnding
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.kinds import Mode
from audiozen_core.trainer.component_access import ComponentAccess
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.epoch_ends import add_prefix, scalars_of
from audiozen_core.trainer.memory import translate_memory_errors
from audiozen_core.trainer.part_errors import explain_step_error, translate_step_errors
from audiozen_core.trainer.results import ResultFolder
from audiozen_core.trainer.steps import Steps

NO_CONTEXT = nullcontext()
_RUNS: dict[Mode, str] = {"validate": "validation run", "test": "test run", "predict": "prediction run"}


class Evaluation(Steps, ComponentAccess):
    """The half of a trainer that does not change weights. The docstring of `BaseTrainer` explains the arguments.

    Attributes:
        ending: how the mode ended. It does not contain the error that ended the mode.
        last_scalars: the scalars of the last evaluation, by their names in records.
        results_folder: the folder of the complete results of a test or a prediction; None if no results were written.
        why_no_score: why the last validation had no finite score, for the warning at the end of a training run without
            a score. A trainer that knows the reason sets it in `validation_epoch_end`.
    """

    def __init__(
        self,
        components: Components,
        *,
        monitor: str,
        save_max_score: bool,
        on_bad_data: UnreadablePolicy,
        max_bad_data: int,
    ) -> None:
        super().__init__(components)
        self.monitor = monitor
        self.save_max_score = save_max_score
        # This object, typed as the protocol that hooks use. Its subclass `BaseTrainer` implements the protocol.
        self._as_trainer: Trainer = self  # type: ignore[assignment]
        self.unreadable = UnreadableSamples(on_bad_data, max_bad_data)
        self.why_no_score = ""
        self._results: tuple[Mode, ResultFolder] | None = None
        self._shown: list[Mapping[str, Tensor]] = []
        # The mode of the evaluation that is running; None if it has ended or been abandoned.
        self._evaluated: Mode | None = None
        self.ending = RunEnding()
        self.last_scalars: dict[str, float] = {}
        self.results_folder: Path | None = None

    def validate(self, loaders: Sequence[BatchLoader]) -> float:
        """Runs the validation once and returns the score."""
        with self._running("validate"):
            score, metrics = self._validate(loaders, compare=False)
            step, epoch = self.progress.step, self.progress.epoch
            self.hooks.on_log(trainer=self._as_trainer, mode="validate", metrics=metrics, step=step, epoch=epoch)
        return score

    def test(self, loaders: Sequence[BatchLoader]) -> Mapping[str, float]:
        """Runs the test and returns its scalars."""
        with self._running("test"):
            with self._evaluating():
                with self._new_results("test"):
                    outputs = self._evaluate("test", loaders, self.test_step)
                    # `test_epoch_end` can write files, so only the main process calls it.
                    main = self.ranks.is_main
                    scalars = scalars_of(self.test_epoch_end, outputs, may_be_none=True) if main else {}
                    scalars = self.ranks.from_main(scalars)
                    metrics = add_prefix("test", self._with_added("test", scalars))
                self._end_evaluation("test", None, metrics)
            self.hooks.on_log(
                trainer=self._as_trainer,
                mode="test",
                metrics=metrics,
                step=self.progress.step,
                epoch=self.progress.epoch,
            )
        return metrics

    def predict(self, loaders: Sequence[BatchLoader]) -> None:
        """Runs `predict_step` over all batches."""
        with self._running("predict"), self._evaluating():
            with self._new_results("predict"):
                self._evaluate("predict", loaders, self.predict_step)
            self._end_evaluation("predict", None, {})

    def each_file(self, batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Splits a batch into batches of one file each, without padding.

        Tensors, arrays and lists are split along their first axis. Signals are cut to the number of samples in
        `length`, if the batch has it. A step that evaluates file by file gives the same results for every batch size.
        """
        return each_file(batch)

    def result_folder(self, dataloader_idx: int) -> Path:
        """Returns the folder for the results of one data set in a test or a prediction. The folder exists.

        Its path is `<run>/<mode>/<checkpoint>/<data set>`, such as `exp/baseline/test/best_epoch_0012/0`. If the folder
        `best_epoch_0012` already has results, the new results go to `best_epoch_0012_2`. Until `test_epoch_end` or the
        last batch of a prediction is done, the name of the checkpoint's folder ends in `.incomplete`.

        Raises:
            RunError: neither a test nor a prediction is running.
        """
        if self._results is None:
            raise RunError(
                "only a test or a prediction has a result folder",
                remedy="call `result_folder` only while a test or a prediction is running",
            )
        mode, results = self._results
        return results.of_dataset(self.dataset_name(mode, dataloader_idx))

    def result_file(self, dataloader_idx: int, name: str) -> Path:
        """Returns the path of a new file in the result folder of a data set.

        Args:
            dataloader_idx: the index of the data set.
            name: the name of the file, such as `f"audio/{id}.wav"`. Folders in the name don't have to exist yet.

        Raises:
            DataError: the file exists or was requested before, because two samples have the same ID; or the name leads
                out of the folder.
            RunError: neither a test nor a prediction is running.
        """
        folder = self.result_folder(dataloader_idx)
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise DataError(
                f"the name `{name}` leads out of {folder}",
                remedy="remove `..` and a leading `/` from the name, or from the sample ID in it",
            )
        assert self._results is not None  # otherwise `result_folder` has raised an error
        if not self._results[1].is_new(path):
            raise DataError(f"two samples would write the same file `{name}`", remedy="give each sample a unique `id`")
        return path

    def _warn_without_best(self) -> None:
        """Warns, at the end of a training run with validations, that no validation had a finite score."""
        self.log.warning(
            "no validation had a finite score, so the run has no checkpoint `best`, and a test uses the latest "
            "checkpoint",
            **({"reason": self.why_no_score} if self.why_no_score else {}),
        )

    @contextmanager
    def _new_results(self, mode: Mode) -> Iterator[None]:
        """Creates a result folder for the mode, and marks it as complete at the end of the block."""
        checkpoint = self.checkpoint_name or f"epoch_{self.progress.epoch:04d}"
        results = ResultFolder(self.folder / mode / checkpoint, self.ranks)
        self._results = mode, results
        try:
            yield
        finally:
            self._results = None
        self.results_folder = results.complete()
        if folder := self.results_folder:
            self.log.info("the results are complete", folder=str(folder))

    def _validate(
        self, loaders: Sequence[BatchLoader], *, compare: bool = True, counts: bool = True
    ) -> tuple[float, dict[str, float]]:
        """Returns the score and the scalars of a validation.

        Args:
            loaders: the validation sets.
            compare: whether the score can become the best score.
            counts: whether `progress` counts this validation. Without `compare`, it is never counted.
        """
        with self._evaluating():
            return self._validate_and_score(loaders, compare=compare, counts=counts)

    def _suggest_monitor(self, scalars: Mapping[str, float]) -> str:
        """Returns a suggestion for `monitor` if the validation has no scalar of this name."""
        # In records and logs the names have a prefix.
        bare = self.monitor.removeprefix("validate/")
        meant = bare if bare in scalars else nearest(bare, scalars)
        if meant:
            return f'write `monitor = "{meant}"` in [trainer.args]'
        return (
            "return this scalar from `validation_epoch_end` or the hook `evaluation_scalars`, or set `monitor` in "
            "[trainer.args] to another scalar"
        )

    def _validate_and_score(
        self, loaders: Sequence[BatchLoader], *, compare: bool, counts: bool
    ) -> tuple[float, dict[str, float]]:
        outputs = self._evaluate("validate", loaders, self.validation_step)
        # All ranks use the scalars of the main process, because a metric can draw random numbers.
        scalars = self.ranks.from_main(scalars_of(self.validation_epoch_end, outputs, may_be_score=True))
        scalars = self._with_added("validate", scalars)
        if self.monitor not in scalars:
            raise RunError(
                f"the validation has no scalar `{self.monitor}`; it has {', '.join(sorted(scalars)) or 'none'}",
                notes=(f"step: {self.validation_epoch_end.__qualname__} of [trainer]",),
                remedy=self._suggest_monitor(scalars),
            )
        score = scalars[self.monitor]
        metrics = add_prefix("validate", {**scalars, "score": score})
        if compare:
            self.progress.validations += counts
        if compare and self._is_better(score):
            self.progress.note_best(score)
            self.hooks.on_best_found(trainer=self._as_trainer, score=score)
        self._end_evaluation("validate", score, metrics)
        return score, metrics

    def _end_evaluation(self, mode: Mode, score: float | None, metrics: Mapping[str, float]) -> None:
        self._evaluated = None
        self.last_scalars = dict(metrics)
        self.hooks.on_evaluation_end(trainer=self._as_trainer, mode=mode, score=score, metrics=metrics)

    def abandon_evaluation(self) -> None:
        """Calls `on_evaluation_abandoned` if an evaluation is running, at most once for each evaluation."""
        mode, self._evaluated = self._evaluated, None
        if mode is not None:
            self.hooks.on_evaluation_abandoned(trainer=self._as_trainer, mode=mode)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Abandons the evaluation if the block raises an error."""
        try:
            yield
        except BaseException:
            with self._without_hiding():
                self.abandon_evaluation()
            raise

    def _with_added(self, mode: Mode, scalars: Mapping[str, float]) -> dict[str, float]:
        """Returns the scalars of an evaluation together with the scalars that hooks add."""
        return {**scalars, **self.added_scalars("evaluation_scalars", scalars, mode=mode)}

    def added_scalars(self, hook: str, taken: Collection[str], **arguments: Any) -> dict[str, float]:
        """Returns the scalars that hooks add.

        Raises:
            HookError: the scalars differ between the ranks, because a hook used only the data of its own rank.
        """
        added = self.hooks.added_scalars(hook, taken, trainer=self._as_trainer, **arguments)
        if self.ranks.several and self.ranks.differing_ranks(added):
            raise HookError(
                f"the scalars that hooks add in `{hook}` differ between the ranks, so they don't cover all data",
                remedy="collect the values of all ranks in the hook with `trainer.ranks.gather(...)`",
            )
        return added

    def show(self, **signals: Tensor) -> None:
        """Passes the signals of one file to the hooks that have the parameter `signals` in `on_evaluation_step_end`.

        Call it in an evaluation step, once for each file. The trainer releases the signals after the batch.

        Args:
            signals: the signals by name, such as `enhanced` [time].
        """
        if self._evaluated and self.hooks.uses_signals(self._evaluated):
            self._shown.append(signals)

    def _evaluate(self, mode: Mode, loaders: Sequence[BatchLoader], step: Callable[..., Any]) -> list[list[Any]]:
        """Runs the step over all batches, and returns its results as `[dataloader_idx][batch_idx]`.

        Every evaluation uses epoch 0, so that a random data set gives the same samples each time.
        """
        self.set_mode(training=False)
        lengths = [loader.num_batches for loader in loaders]
        total = None if None in lengths else sum(length or 0 for length in lengths)
        self.hooks.on_evaluation_start(trainer=self._as_trainer, mode=mode, num_batches=total)
        self._evaluated = mode
        outputs: list[list[Any]] = []
        self.unreadable.collect_skipped()
        # Ranks must call a sharded network together, which is impossible with different numbers of files.
        whole = whole_weights(self.modules.values()) if self.is_sharded else nullcontext()
        with torch.no_grad(), whole:
            for dataloader_idx, loader in enumerate(loaders):
                results: list[tuple[int, Any]] = []
                # `enumerate` would keep a batch, perhaps an hour of audio, in memory while the next batch is loaded.
                turn = -1
                for item in self.batches(loader, epoch=0):
                    turn += 1
                    if item is None:
                        continue
                    batch_idx = turn * self.ranks.size + self.ranks.rank
                    batch = self.load_batch(item, mode, batch_idx)
                    with self._autocast(), translate_step_errors(step, batch, batch_idx):
                        results.append((batch_idx, step(batch, batch_idx, dataloader_idx)))
                    shown, self._shown = self._shown, []
                    # Hooks get a copy of the outputs, so that they can't change the results.
                    needs_outputs = self.hooks.uses_argument("on_evaluation_step_end", "outputs")
                    self.hooks.on_evaluation_step_end(
                        trainer=self._as_trainer,
                        mode=mode,
                        batch=batch,
                        batch_idx=batch_idx,
                        dataloader_idx=dataloader_idx,
                        outputs=map_tensors(results[-1][1], Tensor.clone) if needs_outputs else None,
                        signals=shown,
                    )
                    del item, batch, shown
                predicts = mode == "predict"
                outputs.append([result for _, result in results] if predicts else self._of_all_ranks(results, loader))
        if self.ranks.several:
            self.unreadable.share(self.ranks)
        self.unreadable.report_skipped(_RUNS[mode])
        return outputs

    def _of_all_ranks(self, results: list[tuple[int, Any]], loader: BatchLoader) -> list[Any]:
        """Gathers the results of all ranks in the order of the batches. `results` has (batch index, result) pairs.

        Raises:
            DataError: no rank has a result.
        """
        if not self.ranks.several:
            return [result for _, result in results]
        gathered = self.ranks.gather(map_tensors(results, Tensor.cpu))
        if not any(gathered):
            raise DataError(f"{loader.origin} has no batches that can be read", remedy="check the logs of all ranks")
        ordered = sorted((pair for rank_results in gathered for pair in rank_results), key=lambda pair: pair[0])
        return [to_device(result, self.device) for _, result in ordered]

    # ------------------------------------------------------------------------------- shared by all modes

    @contextmanager
    def _running(self, mode: Mode) -> Iterator[None]:
        self.ending = RunEnding()
        try:
            self.hooks.on_run_start(trainer=self._as_trainer, mode=mode)
            self.hooks.leave_out_idle(self._as_trainer)
            with translate_memory_errors(self):
                yield
            self.hooks.on_run_end(trainer=self._as_trainer, mode=mode, ending=self.ending)
        except BaseException as error:
            # The trainer does not store the error. The traceback refers to the trainer, and such a reference cycle
            # would keep GPU memory allocated after the caller is done.
            self.ending = replace(RunEnding.of_error(error), error=None)
            with self._without_hiding():
                self.hooks.on_exception(trainer=self._as_trainer, error=error)
            with self._without_hiding():
                self.hooks.on_teardown(trainer=self._as_trainer, ending=RunEnding.of_error(error))
            raise
        self.hooks.on_teardown(trainer=self._as_trainer, ending=self.ending)

    @contextmanager
    def _without_hiding(self) -> Iterator[None]:
        """Logs an error that the block raises, so that it does not hide the error that ends the run."""
        try:
            yield
        except Exception as another:
            self.log.error("a hook failed while the run was ending", reason=str(another))

    def batches(self, loader: BatchLoader, epoch: int, *, start: int = 0, allowed_missing: int = 0) -> Iterator[Any]:
        """Returns the batches of an epoch: see `BatchLoader.epoch`."""
        self.batch_size, self.participants.batches_from = loader.batch_size, loader.origin
        batches = loader.epoch(epoch, start=start, allowed_missing=allowed_missing, unreadable=self.unreadable)
        if self.ranks.several and (others := self.ranks.differing_ranks(loader.order_digest)):
            raise DataError(
                f"the sampler of {loader.origin} yields a different order on rank {others[0]} than on rank 0",
                remedy="draw from the generators of Python, NumPy or torch, which have the same seed on all ranks",
            )
        return batches

    def load_batch(self, item: Any, mode: Mode, batch_idx: int) -> Any:
        """Moves a batch to the device, and calls `prepare_batch`, which can check or convert it."""
        batch = to_device(item, self.device)
        self.participants.begin_step()
        try:
            return self.prepare_batch(batch, mode)
        except Exception as error:
            explain_step_error(error, self.prepare_batch, batch, batch_idx)
            raise

    def _is_better(self, score: float) -> bool:
        best = self.progress.best_score
        if not math.isfinite(score):
            self.log.warning("the score is not finite, so this validation can't be the best", score=score)
            return False
        return best is None or (score > best if self.save_max_score else score < best)

    def _autocast(self) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] | None = self.hooks.autocast(trainer=self._as_trainer)
        return context or NO_CONTEXT
