"""A moving average of the weights: `[[hooks]] path = "ema"`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from audiozen_core.binding.ranges import Range, check_ranges
from audiozen_core.distributed.sharding import shard_like
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.hooks.trainer_protocol import Weights as WeightsChoice
from audiozen_core.trainer.module_state import named_weights

NamedTensors = dict[str, Tensor]


class Ema:
    """Keeps an exponential moving average of the weights of all networks, and uses the average in evaluations.

    After each optimiser step, `average = decay * average + (1 - decay) * weights`. Training itself does not change.
    Validation, test and prediction use the average, so the average decides which epoch is the best. Checkpoints contain
    the trained weights and the average. Buffers, such as the statistics of batch normalisation, are not averaged.

    The average was proposed by Polyak and Juditsky, "Acceleration of stochastic approximation by averaging" (SIAM J.
    Control Optim. 30, 1992). The warm-up is the same as in TensorFlow's `ExponentialMovingAverage`.

    Args:
        decay: the weight of the old average in a step, from 0 to below 1.
        warmup: whether to use a lower decay in the first steps: after n steps, it is at most `(1 + n) / (10 + n)`.
        start: the number of optimiser steps before the averaging begins. Until then, the average is a copy of the
            weights.
        evaluate: whether validation, test and prediction use the average.
        save_average: whether `model.safetensors` in the checkpoints contains the average. Finetuning starts from the
            weights in this file, and other programs read it.

    Raises:
        RunError: an argument is out of range.
    """

    name: ClassVar[str] = "ema"
    """What `--weights` calls the average."""
    # The networks must have the average before the hooks of the default phase, `monitor`, are called for an evaluation.
    phase = "step"
    # A checkpoint says which weights are in `model.safetensors`, so a resumed run may have another `save_average`.
    resume_safe: ClassVar = ("save_average",)

    def __init__(
        self,
        decay: Annotated[float, Range(least=0, below=1)] = 0.999,
        warmup: bool = True,
        start: Annotated[int, Range(least=0)] = 0,
        evaluate: bool = True,
        save_average: bool = False,
    ) -> None:
        check_ranges(type(self), locals())
        self.decay = decay
        self.warmup = warmup
        self.start = start
        self.evaluate = evaluate
        self.save_average = save_average
        self._weights: NamedTensors = {}
        self._average: NamedTensors = {}
        self._raw: NamedTensors = {}  # the trained weights, while the networks hold the average
        self._evaluating = False
        self._choice: WeightsChoice | None = None

    # ------------------------------------------------------------------------------- the average

    @hookimpl.on_setup
    def on_setup(self, trainer: Trainer) -> None:
        """Offers the average to `--weights`."""
        self._choice = trainer.weights
        self._choice.offer(self.name, lambda: self._hold(average=self._is_wanted))

    @hookimpl.on_run_start
    def on_run_start(self, trainer: Trainer) -> None:
        """Starts an average from the present weights, unless a checkpoint has restored an average."""
        self._weights = _named_weights(trainer.models)
        if not self._average:
            self._average = _copy(self._weights)
        self._hold(average=False)

    @hookimpl.on_optimizer_step_end
    def on_optimizer_step_end(self, step: int) -> None:
        """Moves the average towards the weights. The CPU does not wait for the GPU."""
        with torch.no_grad():
            torch._foreach_lerp_(list(self._average.values()), list(self._weights.values()), 1 - self.decay_at(step))

    def decay_at(self, step: int) -> float:
        """Returns the decay in an optimiser step, counted from 1."""
        averaged = step - self.start - 1
        if averaged < 0:
            return 0.0
        return min(self.decay, (1 + averaged) / (10 + averaged)) if self.warmup else self.decay

    # ------------------------------------------------------------------------------- evaluation

    @hookimpl.on_evaluation_start
    def on_evaluation_start(self) -> None:
        """Puts the average into the networks if evaluations use it."""
        self._evaluating = True
        self._hold(average=self._is_wanted)

    @hookimpl.on_evaluation_end
    def on_evaluation_end(self) -> None:
        """Puts the trained weights back."""
        self._evaluating = False
        self._hold(average=False)

    @hookimpl.on_evaluation_abandoned
    def on_evaluation_abandoned(self) -> None:
        """Puts the trained weights back, because a checkpoint may be saved next."""
        self.on_evaluation_end()

    # ------------------------------------------------------------------------------- checkpoints

    @hookimpl.on_state_collect
    def on_state_collect(self) -> None:
        """Puts the weights that are saved in `model.safetensors` into the networks."""
        self._hold(average=self.save_average)

    @hookimpl.on_state_collected
    def on_state_collected(self) -> None:
        """Undoes `on_state_collect`."""
        self._hold(average=self._evaluating and self._is_wanted)

    @hookimpl.on_rollback
    def on_rollback(self, trainer: Trainer) -> None:
        """Puts the trained weights of the earlier state into the networks."""
        self.on_run_start(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Returns the average by section and name, and the trained weights if the networks hold the average."""
        return {"average": dict(self._average), "raw": dict(self._raw)}

    def load_state_dict(self, state: Mapping[str, Any], trainer: Trainer) -> None:
        """Restores a state that `state_dict` returned. `on_run_start` puts the trained weights into the networks."""
        self._weights = _named_weights(trainer.models)
        self._average = _like(self._weights, state["average"])
        self._raw = _like(self._weights, state["raw"]) if state["raw"] else {}

    @property
    def _is_wanted(self) -> bool:
        """Whether evaluations use the average."""
        chosen = self._choice.chosen if self._choice else None
        return self.evaluate if chosen is None else chosen == self.name

    def _hold(self, *, average: bool) -> None:
        """Puts the average, or the trained weights, into the networks."""
        if average == bool(self._raw):
            return
        if average:
            self._raw = _copy(self._weights)
        # The networks keep their tensors, because optimisers, recurrent layers and compiled code refer to them.
        with torch.no_grad():
            for name, value in (self._average if average else self._raw).items():
                self._weights[name].copy_(value)
        if not average:
            self._raw = {}


def _named_weights(models: Mapping[str, nn.Module]) -> NamedTensors:
    """Returns the parameters of all networks, by section and name. A shared parameter is included once."""
    networks = nn.ModuleDict({f"model_{suffix}" if suffix else "model": model for suffix, model in models.items()})
    return dict(named_weights(networks))


def _copy(weights: NamedTensors) -> NamedTensors:
    return {name: weight.detach().clone() for name, weight in weights.items()}


def _like(weights: NamedTensors, saved: NamedTensors) -> NamedTensors:
    # With `strategy = "fully_sharded"`, each process has only a share of the weights, but a checkpoint has all of them.
    copies = {name: saved[name].to(device=weight.device, copy=True) for name, weight in weights.items()}
    return {name: shard_like(copies[name], weight) for name, weight in weights.items()}
