"""Measures how much time a training run spends in each part, such as data, forward pass, and optimiser."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from time import perf_counter
from typing import Any, Literal, get_args

import torch

StepPart = Literal["data", "transfer", "forward", "backward", "optimizer", "rest", "outside"]
"""A part of a training run.

- `data`: waiting for a batch.
- `transfer`: moving the batch to the device, and the trainer's `prepare_batch`.
- `forward` and `backward`: the forward and the backward pass.
- `optimizer`: the step of the optimisers.
- `rest`: everything else in an epoch, such as hooks, checks of losses and gradients, and records.
- `outside`: everything that belongs to no step, such as validations and the time between two epochs.
"""

STEP_PARTS: tuple[StepPart, ...] = get_args(StepPart)
"""All parts, in the order of a step."""


# One of `_EVERY` steps is measured on the GPU, but not the first step, because memory is allocated in it.
_EVERY, _FIRST = 16, 2


class StepClock:
    """Adds up the time of each part. A part lasts until the next part begins, so no time is lost or counted twice.

    This class measures the time on the CPU. A GPU works asynchronously, so these times don't show how long the GPU
    needs for a part. `GpuStepClock` also measures the time on the GPU.

    Example:
        >>> clock = StepClock()
        >>> clock.begin("data")
        >>> clock.begin("rest")
        >>> clock.seconds()["data"] >= 0, clock.seconds()["forward"]
        (True, 0.0)
    """

    def __init__(self) -> None:
        self._seconds: dict[StepPart, float] = dict.fromkeys(STEP_PARTS, 0.0)
        self._part: StepPart = "outside"
        self._since = perf_counter()

    def begin(self, part: StepPart) -> None:
        """Ends the current part, and begins another one. This is called ten times in a step, so it must be fast."""
        now = perf_counter()
        self._seconds[self._part] += now - self._since
        self._part, self._since = part, now

    def end_step(self) -> None:
        """Marks the end of a step. It is called after the last backward pass, even if the optimisers skip the step."""

    def seconds(self) -> dict[str, float]:
        """Returns the seconds of each part since the clock was created."""
        self.begin(self._part)
        return {str(part): seconds for part, seconds in self._seconds.items()}

    def gpu_seconds(self) -> tuple[dict[str, float], int]:
        """Returns the GPU time of each part in the measured steps, in seconds, and the number of measured steps."""
        return {}, 0


class GpuStepClock(StepClock):
    """Also measures how long a GPU needs for each part, in one of 16 steps.

    A CUDA event is recorded at the start of each part, and read after the GPU has reached it, so that nothing waits.
    The time of a part includes the time that the GPU is idle in it. The time of `data`, for example, is how long the
    GPU was idle because it had no batch.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device
        self._steps = 0
        self._gpu_seconds: dict[str, float] = dict.fromkeys(STEP_PARTS, 0.0)
        self._measured = 0
        # The events of the step that is currently measured, and of measured steps whose events are not read yet.
        self._open: list[tuple[StepPart, Any]] | None = None
        self._queued: deque[list[tuple[StepPart, Any]]] = deque()

    def begin(self, part: StepPart) -> None:
        """Ends the current part, and begins another one."""
        super().begin(part)
        if self._open is not None:
            self._open.append((part, self._border()))

    def end_step(self) -> None:
        """Marks the end of a step. For this clock, a step lasts from one call of this method to the next."""
        if self._open is not None:
            self._open.append(("outside", self._border()))
            self._queued.append(self._open)
            self._open = None
        self._steps += 1
        if self._steps % _EVERY == _FIRST:
            self._read()
            self._open = [(self._part, self._border())]

    def _border(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _read(self) -> None:
        while self._queued and self._queued[0][-1][1].query():
            for (part, begin), (_, end) in pairwise(self._queued.popleft()):
                self._gpu_seconds[part] += begin.elapsed_time(end) / 1000
            self._measured += 1

    def gpu_seconds(self) -> tuple[dict[str, float], int]:
        """Returns the GPU time of each part in the measured steps, in seconds, and the number of measured steps."""
        self._read()
        return dict(self._gpu_seconds), self._measured


def step_clock(device: torch.device) -> StepClock:
    """Returns the clock for a training run on a device."""
    return GpuStepClock(device) if device.type == "cuda" else StepClock()
