"""Where the time of a training goes: to the data, the forward pass, the optimiser, …"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from time import perf_counter
from typing import Any, Literal, get_args

import torch

Part = Literal["data", "transfer", "forward", "backward", "optimizer", "rest", "outside"]
"""A part of a training.

`data` is waiting for a batch. `transfer` moves it to the device, and is `prepare_batch` of the trainer. `forward` and
`backward` are the passes, `optimizer` the step of the optimisers. `rest` is all else in an epoch: hooks, the checks of
losses and gradients, records. `outside` is what belongs to no step: validations, and the time between two epochs.
"""

PARTS: tuple[Part, ...] = get_args(Part)
"""All parts, in the order of a step."""


# Of so many steps, one is measured on the GPU. The first one is left out, because memory is allocated in it.
_EVERY, _FIRST = 16, 2


class StepClock:
    """Adds up the time of each part. A part lasts until the next one begins, so no time is lost or counted twice.

    It reads the clock of the processor. A GPU works behind the program, so for it these times are only those of the
    program; `GpuStepClock` also has those of the GPU.

    Example:
        >>> clock = StepClock()
        >>> clock.begin("data")
        >>> clock.begin("rest")
        >>> clock.seconds()["data"] >= 0, clock.seconds()["forward"]
        (True, 0.0)
    """

    def __init__(self) -> None:
        self._seconds: dict[Part, float] = dict.fromkeys(PARTS, 0.0)
        self._part: Part = "outside"
        self._since = perf_counter()

    def begin(self, part: Part) -> None:
        """Ends the part that lasts, and begins another one. This runs ten times in a step, so it does no more."""
        now = perf_counter()
        self._seconds[self._part] += now - self._since
        self._part, self._since = part, now

    def end_step(self) -> None:
        """Ends a step, after its last backward pass, whether or not the optimisers then change a weight."""

    def seconds(self) -> dict[str, float]:
        """Returns the seconds of each part since the clock was made."""
        self.begin(self._part)
        return {str(part): seconds for part, seconds in self._seconds.items()}

    def gpu_seconds(self) -> tuple[dict[str, float], int]:
        """Returns the seconds that a GPU has needed for each part of some steps, and how many steps these were."""
        return {}, 0


class GpuStepClock(StepClock):
    """Also measures how long a GPU needs for the parts, in one step of 16.

    The borders of the parts are events in the queue of its work. They are read when the GPU has passed them, so nothing
    waits. The time of a part then includes how long the GPU has waited in it for the program: that of `data` is how
    long it had nothing to do because a batch was missing.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device
        self._steps = 0
        self._gpu_seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self._measured = 0
        # The borders of the step that is measured, and those of steps that the GPU has not done when they were queued.
        self._open: list[tuple[Part, Any]] | None = None
        self._queued: deque[list[tuple[Part, Any]]] = deque()

    def begin(self, part: Part) -> None:
        """Ends the part that lasts, and begins another one."""
        super().begin(part)
        if self._open is not None:
            self._open.append((part, self._border()))

    def end_step(self) -> None:
        """Ends a step. For this clock, a step is from here to the same place in the next one."""
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
        """Returns the seconds that the GPU has needed for each part of some steps, and how many steps these were."""
        self._read()
        return dict(self._gpu_seconds), self._measured


def step_clock(device: torch.device) -> StepClock:
    """Returns the clock for a training on a device."""
    return GpuStepClock(device) if device.type == "cuda" else StepClock()
