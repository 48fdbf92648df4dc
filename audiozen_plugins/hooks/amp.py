"""Automatic mixed precision: `meta.use_amp`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from audiozen_core.hookspecs import hookimpl
from audiozen_core.trainer.base_trainer import BaseTrainer


class Amp:
    """Runs the forward pass in half precision if the trainer's `use_amp` says so.

    On CUDA it is float16 with a gradient scaler, on the CPU bfloat16, which needs none. The STFT of the trainer stays
    in float32. The state of the scaler is kept in the checkpoints.

    Args:
        dtype: `float16` or `bfloat16`, if not the device's default; a scaler comes with float16 on CUDA only.
        init_scale: the scale that float16 starts with; it is halved after each overflow.
    """

    phase = "precision"

    def __init__(self, dtype: str | None = None, init_scale: float = 65536.0) -> None:
        self.dtype = dtype
        self.init_scale = init_scale
        self._scaler: torch.amp.GradScaler | None = None
        self._restored: dict[str, Any] = {}

    @hookimpl
    def autocast(self, trainer: BaseTrainer) -> AbstractContextManager[Any] | None:
        """Half precision for the forward pass."""
        if not trainer.use_amp:
            return None
        return torch.autocast(trainer.device.type, dtype=self._dtype(trainer.device))

    @hookimpl
    def backward(self, trainer: BaseTrainer, loss: Tensor, inputs: list[Tensor] | None) -> bool | None:
        """Scales the loss, so that small gradients do not vanish in float16."""
        scaler = self._scaler_for(trainer)
        if scaler is None:
            return None
        torch.autograd.backward(scaler.scale(loss), inputs=inputs, retain_graph=len(trainer.optimizers) > 1)
        return True

    @hookimpl
    def on_gradients_ready(self, trainer: BaseTrainer) -> None:
        """Takes the scale out again, before the gradients are clipped."""
        if scaler := self._scaler_for(trainer):
            for optimizer in trainer.optimizers.values():
                scaler.unscale_(optimizer)

    @hookimpl
    def optimizer_step(self, trainer: BaseTrainer, optimizer: torch.optim.Optimizer) -> bool | None:
        """Leaves the step out where a gradient has overflowed."""
        scaler = self._scaler_for(trainer)
        if scaler is None:
            return None
        scaler.step(optimizer)
        return True

    @hookimpl
    def on_optimizer_step_end(self, trainer: BaseTrainer) -> None:
        """Adapts the scale."""
        if scaler := self._scaler_for(trainer):
            scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """The state of the scaler, empty where there is none."""
        return self._scaler.state_dict() if self._scaler else dict(self._restored)

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Takes back what `state_dict` gave; the scaler gets it when it is made."""
        self._restored = dict(state_dict)
        self._scaler = None

    def _dtype(self, device: torch.device) -> torch.dtype:
        if self.dtype is not None:
            return {"float16": torch.float16, "bfloat16": torch.bfloat16}[self.dtype]
        return torch.float16 if device.type == "cuda" else torch.bfloat16

    def _scaler_for(self, trainer: BaseTrainer) -> torch.amp.GradScaler | None:
        if not trainer.use_amp or trainer.device.type != "cuda" or self._dtype(trainer.device) != torch.float16:
            return None
        if self._scaler is None:
            self._scaler = torch.amp.GradScaler(trainer.device.type, init_scale=self.init_scale)
            if self._restored:
                self._scaler.load_state_dict(self._restored)
        return self._scaler
