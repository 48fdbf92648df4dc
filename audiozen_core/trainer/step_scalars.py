"""The scalars of an epoch's steps, read without making the GPU wait."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from audiozen_core.errors import RunError

# A GPU may be so many steps behind before a loss is read: by then it is computed, and reading it waits for nothing.
GPU_LAG = 8


class StepScalars:
    """Collects the scalars of each training step, and stops the run where a loss is not finite.

    On a GPU a value is read a few steps after it was queued, so that reading does not stall the queue; `flush` reads
    the rest.

    Args:
        epoch: the epoch, for messages.
        device: where the steps are computed.
    """

    def __init__(self, epoch: int, device: torch.device) -> None:
        self.epoch = epoch
        self.steps: list[dict[str, float]] = []
        self._lag = GPU_LAG if device.type == "cuda" else 0
        self._pending: deque[tuple[int, int, Any, dict[str, Any]]] = deque()

    def add(self, outputs: Mapping[str, Any], *, step: int, batch_idx: int, batch: Any) -> None:
        """Takes the scalars among a step's outputs.

        Args:
            outputs: what the step returned; numbers and tensors of one element are kept, detached.
            step: the optimiser step that the batch goes into, from 1, for messages.
            batch_idx: the place of the batch in the epoch, for messages.
            batch: the batch; its `id`, if it has one, is for messages.

        Raises:
            RunError: a loss that is NaN or infinite.
        """
        scalars = {name: value for name, value in outputs.items() if _is_scalar(value)}
        ids = batch.get("id") if isinstance(batch, Mapping) else None
        self._pending.append((step, batch_idx, ids, scalars))
        while len(self._pending) > self._lag:
            self._read()

    def annotate(self, name: str, value: Any) -> None:
        """Adds one more scalar to the newest step."""
        if self._pending:
            self._pending[-1][-1][name] = value
        elif self.steps:
            self.steps[-1][name] = float(value)

    def flush(self) -> list[dict[str, float]]:
        """Reads what is still pending and gives the scalars of all steps."""
        while self._pending:
            self._read()
        return self.steps

    @property
    def last(self) -> Mapping[str, float]:
        """The newest scalars that are known, empty at first."""
        return self.steps[-1] if self.steps else {}

    def _read(self) -> None:
        step, batch_idx, ids, scalars = self._pending.popleft()
        values = {name: float(value) for name, value in scalars.items()}
        for name, value in values.items():
            if name.startswith("loss") and not math.isfinite(value):
                samples = f"; its samples: {', '.join(map(str, ids))}" if ids else ""
                raise RunError(
                    f"`{name}` is {value} at step {step} (epoch {self.epoch}, batch {batch_idx}{samples})",
                    remedy="lower the learning rate, clip the gradients (`clip_grad_norm_value`), or look at these "
                    "samples; the checkpoints are untouched",
                )
        self.steps.append(values)


def mean_of(steps: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each scalar over the steps that have it.

    Example:
        >>> mean_of([{"loss": 1.0}, {"loss": 3.0, "snr": 5.0}])
        {'loss': 2.0, 'snr': 5.0}
    """
    names = dict.fromkeys(name for step in steps for name in step)
    values = {name: [step[name] for step in steps if name in step] for name in names}
    return {name: math.fsum(found) / len(found) for name, found in values.items()}


def _is_scalar(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex()
    return isinstance(value, int | float) and not isinstance(value, bool)
