"""Automatic mixed precision: `meta.use_amp`."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from audiozen_core.binding.ranges import Range, check_ranges
from audiozen_core.errors import RunError
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.trainer.host_copy import HostCopy

# Whether a step has overflowed is read from a GPU this many steps later. By then the GPU has computed it, so the CPU
# does not wait.
_GPU_LAG = 8
_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
# The limits for the scale. The scaler stores it in float32, where a number beyond these limits would become 0 or
# infinity.
_SCALES = Range(least=torch.finfo(torch.float32).tiny, most=torch.finfo(torch.float32).max)


@dataclass(frozen=True, slots=True)
class _Step:
    """A step of one optimiser. `overflow` has a number for each device, which is not 0 if a gradient has overflowed."""

    suffix: str
    number: int
    overflow: HostCopy


class Amp:
    """Runs the forward pass in half precision if `use_amp` is set in `[meta]`.

    On CUDA this is float16 with a gradient scaler. On the CPU it is bfloat16 without a scaler. The trainer's STFT stays
    in float32. Checkpoints hold the state of the scaler.

    It is normal that a gradient overflows float16 now and then: the optimiser skips the step, and the scale is halved.
    The number of skipped steps in an epoch is recorded as `train/overflows`, or as `train/overflows_g` for the
    optimiser with the suffix `g`. If no step was skipped, there is no such scalar. Many overflows in a row are an
    error.

    Args:
        dtype: `float16`, which uses a scaler, or `bfloat16`; by default the type for the device.
        init_scale: the scale at the start of training with float16.
        max_overflows: the number of overflows in a row that are tolerated, for each optimiser. One more ends the run.
            On a GPU, the run may end up to eight steps later, because the CPU does not wait for the GPU.

    Raises:
        RunError: an argument is out of range.
    """

    default = True
    state_is_for_training = True
    phase = "precision"

    def __init__(
        self,
        dtype: Literal["float16", "bfloat16"] | None = None,
        init_scale: Annotated[float, _SCALES] = 65536.0,
        max_overflows: Annotated[int, Range(least=0)] = 50,
    ) -> None:
        if dtype not in (None, *_DTYPES):
            raise RunError(f"`dtype` is {dtype!r}, for Amp", remedy=f"use one of {', '.join(_DTYPES)}, or leave it out")
        check_ranges(Amp, locals())
        self.dtype = dtype
        self.init_scale = init_scale
        self.max_overflows = max_overflows
        # The numbers of overflows, by the suffix of the optimiser.
        self._in_epoch = Counter[str]()
        self._in_a_row = Counter[str]()
        self._unread = deque[_Step]()
        self._scaler_used = False
        self._scaler: torch.amp.GradScaler | None = None
        self._restored: dict[str, Any] = {}

    def idle_hooks(self, trainer: Trainer) -> Collection[str]:
        """Returns the hooks that do nothing in this run, because it uses no AMP, or AMP without a scaler."""
        if self._scaler_for(trainer):
            return ()
        scaling = ("backward", "on_gradients_ready", "optimizer_step", "on_optimizer_step_end")
        return scaling if trainer.use_amp else ("autocast", *scaling)

    @hookimpl.on_run_start
    def on_run_start(self, trainer: Trainer) -> None:
        """Sets `loss_is_scaled`, so that the trainer does not treat an overflow as an error."""
        trainer.loss_is_scaled = self._scaler_for(trainer) is not None

    @hookimpl.on_epoch_start
    def on_epoch_start(self, trainer: Trainer) -> None:
        """Resets the numbers of overflows, unless a resumed run continues the epoch."""
        if trainer.progress.batch == 0:
            self._in_epoch.clear()

    @hookimpl.autocast
    def autocast(self, trainer: Trainer) -> AbstractContextManager[Any] | None:
        """Enables half precision for the forward pass."""
        if not trainer.use_amp:
            return None
        return torch.autocast(trainer.device.type, dtype=self._dtype(trainer.device))

    @hookimpl.backward
    def backward(self, trainer: Trainer, loss: Tensor, inputs: list[Tensor] | None, last: bool) -> bool | None:
        """Scales the loss, so that small gradients do not vanish in float16."""
        scaler = self._scaler_for(trainer)
        if scaler is None:
            return None
        torch.autograd.backward(scaler.scale(loss), inputs=inputs, retain_graph=not last)
        return True

    @hookimpl.on_gradients_ready
    def on_gradients_ready(self, trainer: Trainer) -> None:
        """Unscales the gradients before they are clipped."""
        if scaler := self._scaler_for(trainer):
            for optimizer in trainer.optimizers.values():
                if _has_gradients(optimizer):
                    scaler.unscale_(optimizer)

    @hookimpl.optimizer_step
    def optimizer_step(self, trainer: Trainer, optimizer: torch.optim.Optimizer) -> bool | None:
        """Skips the step if a gradient has overflowed."""
        scaler = self._scaler_for(trainer)
        # If networks are trained in turns, some optimisers have no gradients in this step. The scaler would raise an
        # error for them.
        if scaler is None or not _has_gradients(optimizer):
            return None
        scaler.step(optimizer)
        self._scaler_used = True
        suffix = {other: suffix for suffix, other in trainer.optimizers.items()}[optimizer]
        # A fused optimiser is always called, and skips the step itself. So whether the step was skipped is not visible
        # here, and the overflows are read from the scaler.
        found = scaler._found_inf_per_device(optimizer)
        overflow = HostCopy({str(device): tensor for device, tensor in found.items()})
        self._unread.append(_Step(suffix, trainer.progress.step + 1, overflow))
        self._read_steps(lag=_lag(trainer.device))
        return True

    def _read_steps(self, lag: int = 0) -> None:
        """Counts the overflows of all steps except the newest `lag` steps, which the GPU may not have computed yet."""
        while len(self._unread) > lag:
            step = self._unread.popleft()
            if not any(step.overflow.read().values()):
                self._in_a_row.pop(step.suffix, None)
                continue
            self._in_epoch[step.suffix] += 1
            self._in_a_row[step.suffix] += 1
            if self._in_a_row[step.suffix] > self.max_overflows:
                section = f"optimizer_{step.suffix}" if step.suffix else "optimizer"
                raise RunError(
                    f"the gradients have overflowed float16 in {self._in_a_row[step.suffix]} steps in a row, up to "
                    f"step {step.number}: [{section}] makes no progress",
                    remedy="inspect the loss, lower the learning rate, or set `use_amp = false`",
                )

    @hookimpl.on_optimizer_step_end
    def on_optimizer_step_end(self, trainer: Trainer) -> None:
        """Updates the scale: an overflow lowers it, and many steps without overflow raise it."""
        if (scaler := self._scaler_for(trainer)) and self._scaler_used:
            scaler.update()
        self._scaler_used = False

    @hookimpl.epoch_scalars
    def epoch_scalars(self) -> dict[str, float]:
        """Returns the numbers of overflows in the epoch."""
        self._read_steps()
        counted = self._in_epoch.items()
        return {f"overflows_{suffix}" if suffix else "overflows": float(count) for suffix, count in counted}

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the scaler (empty without a scaler), and the numbers of overflows."""
        self._read_steps()
        scaler = self._scaler.state_dict() if self._scaler else dict(self._restored)
        return {"scaler": scaler, "in_epoch": dict(self._in_epoch), "in_a_row": dict(self._in_a_row)}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Restores a state that `state_dict` returned. The scaler gets its state when it is created."""
        self._unread.clear()
        self._in_epoch, self._in_a_row = Counter(state_dict["in_epoch"]), Counter(state_dict["in_a_row"])
        self._restored = dict(state_dict["scaler"])
        self._scaler = None

    def _dtype(self, device: torch.device) -> torch.dtype:
        if self.dtype is not None:
            return _DTYPES[self.dtype]
        return torch.float16 if device.type == "cuda" else torch.bfloat16

    def _scaler_for(self, trainer: Trainer) -> torch.amp.GradScaler | None:
        if not trainer.use_amp or self._dtype(trainer.device) != torch.float16:
            return None
        if self._scaler is None:
            self._scaler = torch.amp.GradScaler(trainer.device.type, init_scale=self.init_scale)
            if self._restored:
                self._scaler.load_state_dict(self._restored)
        return self._scaler


def _lag(device: torch.device) -> int:
    """Returns how many steps later the overflow of a step can be read without waiting."""
    return _GPU_LAG if device.type == "cuda" else 0


def _has_gradients(optimizer: torch.optim.Optimizer) -> bool:
    return any(weight.grad is not None for group in optimizer.param_groups for weight in group["params"])
