"""The training loop: epoch, step, backward, optimiser step, validation. All else is a hook."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from audiozen_core.errors import RunError
from audiozen_core.hookspecs import Mode
from audiozen_core.logging import get_logger
from audiozen_core.stft import Stft
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.data import BatchLoader, to_device
from audiozen_core.trainer.state import Progress, RandomState, StateLedger
from audiozen_core.trainer.step_scalars import StepScalars
from audiozen_core.trainer.steps import Steps


class BaseTrainer(Steps):
    """What every trainer is made of; a subclass says what a step is.

    A subclass defines `training_step` and, for the modes that it is used in, `validation_step` and
    `validation_epoch_end`, `test_step` and `test_epoch_end`, `predict_step`. Arguments of its own stand beside
    `**kwargs`:

        class Trainer(BaseTrainer):
            def __init__(self, components, *, alpha: float = 0.5, **kwargs):
                super().__init__(components, **kwargs)
                self.alpha = alpha

            def training_step(self, batch, batch_idx):
                return self.loss_function(self.model(batch["noisy"]), batch["clean"])

    At hand are `self.model`, `self.loss_function`, `self.optimizer`, `self.lr_scheduler`; `self.stft`, `self.istft`
    and the numbers of `[acoustics]`; `self.progress`, `self.log`, `self.device`, `self.folder`.

    Args:
        components: the parts to work with; given by AudioZEN.
        max_epochs: the most epochs to train.
        max_steps: the most optimiser steps to train; None for no limit.
        clip_grad_norm_value: the norm that the gradients, all taken together, are clipped to; None for no clipping.
        save_max_score: whether the best model is the one with the highest score (else with the lowest).
        save_ckpt_interval: a checkpoint is saved after each so many epochs, and always for the best epoch and the last.
        patience: the training stops after so many epochs without a better score; None to go on.
        validation_interval: validation comes after each so many epochs, and after the last.
        max_num_checkpoints: the checkpoints to keep, the newest; the best one and the latest are kept in any case.
        gradient_accumulation_steps: batches whose gradients are averaged into one optimiser step.
        plot_norm: whether to record the norm of the gradients, before clipping, as `train/grad_norm`.
        log_interval: the scalars of a single step are recorded after each so many optimiser steps; 0 for never.

    Raises:
        RunError: an argument out of its range, or a scheduler that contradicts `save_max_score`.
    """

    def __init__(
        self,
        components: Components,
        *,
        max_epochs: int = 100,
        max_steps: int | None = None,
        clip_grad_norm_value: float | None = None,
        save_max_score: bool = True,
        save_ckpt_interval: int = 1,
        patience: int | None = None,
        validation_interval: int = 1,
        max_num_checkpoints: int = 5,
        gradient_accumulation_steps: int = 1,
        plot_norm: bool = False,
        log_interval: int = 50,
    ) -> None:
        self.models = components.models
        self.loss_functions = components.loss_functions
        self.optimizers = components.optimizers
        self.lr_schedulers = components.lr_schedulers
        self.hooks = components.lifecycle
        self.device = components.device
        self.folder = components.folder
        self.experiment = components.experiment
        self.seed = components.seed
        self.use_amp = components.use_amp
        self.config_text = components.config_text

        self.max_epochs = _at_least(1, max_epochs=max_epochs)
        self.max_steps = max_steps if max_steps is None else _at_least(1, max_steps=max_steps)
        self.clip_grad_norm_value = clip_grad_norm_value
        self.save_max_score = save_max_score
        self.save_ckpt_interval = _at_least(1, save_ckpt_interval=save_ckpt_interval)
        self.patience = patience if patience is None else _at_least(1, patience=patience)
        self.validation_interval = _at_least(1, validation_interval=validation_interval)
        self.max_num_checkpoints = _at_least(1, max_num_checkpoints=max_num_checkpoints)
        self.gradient_accumulation_steps = _at_least(1, gradient_accumulation_steps=gradient_accumulation_steps)
        self.plot_norm = plot_norm
        self.log_interval = _at_least(0, log_interval=log_interval)
        for scheduler in self.lr_schedulers.values():
            scheduler.check(save_max_score=save_max_score)

        self.acoustics = components.acoustics
        self.sr, self.n_fft = self.acoustics.sr, self.acoustics.n_fft
        self.hop_length, self.win_length = self.acoustics.hop_length, self.acoustics.win_length
        transform = Stft(self.acoustics)
        self.stft, self.istft = transform.transform, transform.inverse

        self.log = get_logger()
        self.progress = Progress()
        self.num_batches: int | None = None
        self.grad_norm: Tensor | None = None
        self.scalars = StepScalars(0, self.device)
        self.state = self._ledger()

    # ------------------------------------------------------------------------------- parts by their short names

    @property
    def model(self) -> nn.Module:
        """The network, where there is one."""
        return self.models[""]

    @property
    def loss_function(self) -> Callable[..., Any]:
        """The loss function, where there is one."""
        return self.loss_functions[""]

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimiser, where there is one."""
        return self.optimizers[""]

    @property
    def lr_scheduler(self) -> Any:
        """The learning-rate scheduler, or None."""
        return self.lr_schedulers[""].scheduler if "" in self.lr_schedulers else None

    # ------------------------------------------------------------------------------- training

    def train(self, loader: BatchLoader, validation_loaders: Sequence[BatchLoader] = ()) -> None:
        """Trains until `max_epochs`, `max_steps` or a hook says that it is enough."""
        with self._running("train"):
            while (reason := self._stop_reason()) is None:
                metrics = self._train_epoch(loader)
                self.progress.epoch, self.progress.batch = self.progress.epoch + 1, 0
                epoch = self.progress.epoch
                last = epoch == self.max_epochs or self._out_of_steps
                score = None
                if validation_loaders and (last or epoch % self.validation_interval == 0):
                    score, scalars = self._validate(validation_loaders)
                    metrics |= scalars
                self._step_schedulers("epoch", score)
                self._check_weights()
                self.hooks.on_log(trainer=self, metrics=metrics, step=self.progress.step, epoch=epoch)
                self.hooks.on_epoch_end(trainer=self, epoch=epoch, metrics=metrics)
            self.log.info("training is over", reason=reason, epochs=self.progress.epoch, steps=self.progress.step)

    def _train_epoch(self, loader: BatchLoader) -> dict[str, float]:
        epoch = self.progress.epoch + 1
        self.num_batches = _length(loader)
        self.scalars = StepScalars(epoch, self.device)
        for model in self.models.values():
            model.train()
        self.hooks.on_epoch_start(trainer=self, epoch=epoch)
        start = self.progress.batch
        batch_idx = start - 1
        for batch_idx, item in enumerate(loader.epoch(epoch, start=start), start=start):
            batch = to_device(item, self.device)
            self.hooks.on_training_step_start(trainer=self, batch=batch, batch_idx=batch_idx)
            losses, outputs = self._forward(batch, batch_idx)
            self._backward(losses, batch_idx)
            if (batch_idx + 1) % self.gradient_accumulation_steps == 0:
                self._optimizer_step()
            self.progress.batch = batch_idx + 1
            self.hooks.on_training_step_end(trainer=self, batch=batch, batch_idx=batch_idx, outputs=outputs)
            if self._out_of_steps:
                break
        if batch_idx < 0:
            raise RunError(f"the training data gave no batch in epoch {epoch}", remedy="look at the data set")
        if (batch_idx + 1) % self.gradient_accumulation_steps != 0:
            self._optimizer_step()
        return _prefixed("train", self.training_epoch_end(self.scalars.flush()))

    def _forward(self, batch: Any, batch_idx: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The losses by name, and all that the step returned, detached."""
        with self._autocast():
            result = self.training_step(batch, batch_idx)
        result = result if isinstance(result, Mapping) else {"loss": result}
        losses = {name: value for name, value in result.items() if name == "loss" or name.startswith("loss_")}
        if not losses:
            raise RunError(f"{type(self).__name__}.training_step returned no `loss`, but {sorted(result)}")
        outputs = {name: value.detach() if isinstance(value, Tensor) else value for name, value in result.items()}
        self.scalars.add(outputs, step=self.progress.step + 1, batch_idx=batch_idx, batch=batch)
        return losses, outputs

    def _backward(self, losses: dict[str, Tensor], batch_idx: int) -> None:
        # The last window of an epoch may have fewer batches; each is to weigh the same.
        window = self.gradient_accumulation_steps
        if self.num_batches is not None:
            window = min(window, self.num_batches - batch_idx // window * window)
        for count, (name, loss) in enumerate(losses.items(), start=1):
            net = self.models.get(name.removeprefix("loss_")) if name != "loss" else None
            inputs = [weight for weight in net.parameters() if weight.requires_grad] if net else None
            share = loss / window if window > 1 else loss
            if not self.hooks.backward(trainer=self, loss=share, inputs=inputs):
                # Several losses may share parts of one graph.
                torch.autograd.backward(share, inputs=inputs, retain_graph=count < len(losses))

    def _optimizer_step(self) -> None:
        self.hooks.on_gradients_ready(trainer=self)
        if self.plot_norm and self.grad_norm is not None:
            self.scalars.annotate("grad_norm", self.grad_norm)
        for optimizer in self.optimizers.values():
            if not self.hooks.optimizer_step(trainer=self, optimizer=optimizer):
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1
        self._step_schedulers("step")
        step = self.progress.step
        self.hooks.on_optimizer_step_end(trainer=self, step=step)
        if self.log_interval and step % self.log_interval == 0 and self.scalars.last:
            metrics = _prefixed("step", self.scalars.last)
            self.hooks.on_log(trainer=self, metrics=metrics, step=step, epoch=self.progress.epoch + 1)

    # ------------------------------------------------------------------------------- evaluation

    def validate(self, loaders: Sequence[BatchLoader]) -> float:
        """Runs the validation once and gives the score."""
        with self._running("validate"):
            score, metrics = self._validate(loaders, compare=False)
            self.hooks.on_log(trainer=self, metrics=metrics, step=self.progress.step, epoch=self.progress.epoch)
        return score

    def test(self, loaders: Sequence[BatchLoader]) -> Mapping[str, float]:
        """Runs the test and gives its scalars."""
        with self._running("test"):
            outputs = self._evaluate("test", loaders, self.test_step)
            metrics = _prefixed("test", self.test_epoch_end(outputs) or {})
            self.hooks.on_evaluation_end(trainer=self, mode="test", score=None, metrics=metrics)
            self.hooks.on_log(trainer=self, metrics=metrics, step=self.progress.step, epoch=self.progress.epoch)
        return metrics

    def predict(self, loaders: Sequence[BatchLoader]) -> None:
        """Runs `predict_step` over all batches."""
        with self._running("predict"):
            self._evaluate("predict", loaders, self.predict_step)
            self.hooks.on_evaluation_end(trainer=self, mode="predict", score=None, metrics={})

    def _validate(self, loaders: Sequence[BatchLoader], *, compare: bool = True) -> tuple[float, dict[str, float]]:
        outputs = self._evaluate("validate", loaders, self.validation_step)
        result = self.validation_epoch_end(outputs)
        scalars = dict(result) if isinstance(result, Mapping) else {"score": result}
        if "score" not in scalars:
            raise RunError(f"{type(self).__name__}.validation_epoch_end returned no `score`, but {sorted(scalars)}")
        score = float(scalars["score"])
        metrics = _prefixed("validate", scalars)
        if compare and self._is_better(score):
            self.progress.best_score, self.progress.best_epoch = score, self.progress.epoch
            self.hooks.on_best_found(trainer=self, score=score)
        self.hooks.on_evaluation_end(trainer=self, mode="validate", score=score, metrics=metrics)
        return score, metrics

    def _evaluate(self, mode: Mode, loaders: Sequence[BatchLoader], step: Callable[..., Any]) -> list[list[Any]]:
        """The answers of the step as `[dataloader_idx][batch_idx]`; items are those of epoch 0, the same every time."""
        for model in self.models.values():
            model.eval()
        lengths = [_length(loader) for loader in loaders]
        total = None if None in lengths else sum(length or 0 for length in lengths)
        self.hooks.on_evaluation_start(trainer=self, mode=mode, num_batches=total)
        outputs: list[list[Any]] = []
        with torch.no_grad():
            for dataloader_idx, loader in enumerate(loaders):
                outputs.append([])
                for batch_idx, item in enumerate(loader.epoch(0)):
                    batch = to_device(item, self.device)
                    with self._autocast():
                        outputs[-1].append(step(batch, batch_idx, dataloader_idx))
                    self.hooks.on_evaluation_step_end(
                        trainer=self, mode=mode, batch_idx=batch_idx, dataloader_idx=dataloader_idx
                    )
        return outputs

    # ------------------------------------------------------------------------------- state

    def load_checkpoint(self, state: Mapping[str, dict[str, Any]]) -> None:
        """Goes back to the state that a checkpoint holds.

        Args:
            state: owner to state, as `CheckpointStore.load` gives it.

        Raises:
            CheckpointError: it does not fit this trainer.
        """
        state = dict(state)
        self.hooks.on_checkpoint_load(trainer=self, extra=state.pop("extra", {}))
        self.state.load_state_dict(state)

    def checkpoint(self) -> dict[str, dict[str, Any]]:
        """All state, owner to state, with what the hooks add under `extra`."""
        extra: dict[str, Any] = {}
        self.hooks.on_checkpoint_save(trainer=self, extra=extra)
        return {**self.state.state_dict(), "extra": extra}

    def _ledger(self) -> StateLedger:
        ledger = StateLedger()
        for suffix, model in self.models.items():
            ledger.register(_section("model", suffix), model)
        for suffix, optimizer in self.optimizers.items():
            ledger.register(_section("optimizer", suffix), optimizer)
        for suffix, entry in self.lr_schedulers.items():
            ledger.register(_section("lr_scheduler", suffix), entry.scheduler)
        for name, plugin in self.hooks.stateful():
            ledger.register(f"hook_{name}", plugin)
        ledger.register("progress", self.progress)
        ledger.register("rng", RandomState())
        return ledger

    # ------------------------------------------------------------------------------- small print

    @contextmanager
    def _running(self, mode: Mode) -> Iterator[None]:
        try:
            self.hooks.on_run_start(trainer=self, mode=mode)
            yield
            self.hooks.on_run_end(trainer=self, mode=mode)
        except BaseException as error:
            self.hooks.on_exception(trainer=self, error=error)
            raise
        finally:
            self.hooks.on_teardown(trainer=self)

    @property
    def _out_of_steps(self) -> bool:
        return self.max_steps is not None and self.progress.step >= self.max_steps

    def _stop_reason(self) -> str | None:
        if self.progress.epoch >= self.max_epochs:
            return f"max_epochs = {self.max_epochs} is reached"
        if self._out_of_steps:
            return f"max_steps = {self.max_steps} is reached"
        reason: str | None = self.hooks.stop_reason(trainer=self)
        return reason

    def _is_better(self, score: float) -> bool:
        best = self.progress.best_score
        if not math.isfinite(score):
            self.log.warning("the score is not finite, so this epoch can't be the best", score=score)
            return False
        return best is None or (score > best if self.save_max_score else score < best)

    def _step_schedulers(self, interval: str, score: float | None = None) -> None:
        for scheduler in self.lr_schedulers.values():
            scheduler.step(interval, score)

    def _check_weights(self) -> None:
        """Stops before weights that are not finite reach a checkpoint; one look at the GPU an epoch."""
        for suffix, model in self.models.items():
            total = torch.nn.utils.get_total_norm([weight.detach() for weight in model.parameters()])
            if not torch.isfinite(total):
                raise RunError(
                    f"the weights of `{_section('model', suffix)}` are not finite after epoch {self.progress.epoch}",
                    remedy="lower the learning rate or clip the gradients; the checkpoints are untouched",
                )

    def _autocast(self) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] | None = self.hooks.autocast(trainer=self)
        return context or nullcontext()


def _section(kind: str, suffix: str) -> str:
    return f"{kind}_{suffix}" if suffix else kind


def _prefixed(prefix: str, scalars: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": float(value) for name, value in scalars.items()}


def _length(loader: BatchLoader) -> int | None:
    try:
        return len(loader)
    except TypeError:
        return None


def _at_least(least: int, **argument: int) -> int:
    ((name, value),) = argument.items()
    if value < least:
        raise RunError(f"`{name}` is {value}, but must be at least {least}", remedy=f"set {name} in [trainer.args]")
    return value
