"""Measures how long each part of a step and each hook takes, on the CPU or on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import Any

import torch
from torch.profiler import record_function

from audiozen_core.trainer.step_clock import StepClock, StepPart

HOOK = "hook "
"""The prefix of the names of parts that are hooks."""


@dataclass(frozen=True, slots=True)
class StepTimes:
    """The times of the recorded steps.

    Attributes:
        steps: the duration of each optimiser step in seconds, from the request for its first batch to the request for
            the first batch of the next step.
        parts: the total time of each part over all steps in seconds, by the name of the part. Each hook is a part of
            its own. The time of a hook is not included in the part that called the hook.
    """

    steps: Sequence[float]
    parts: Mapping[str, float]


class Timeline(StepClock):
    """Records a timestamp at the start of each part of a step and of each hook, between `start` and `stop`.

    On a GPU, a timestamp is a CUDA event in the current stream, and the events are read after the last step. The time
    of a part then consists of the time in which the GPU computes the part, and the time in which the GPU is idle during
    the part. The measurement never makes training wait. If the GPU is still busy with earlier work while the program
    waits for data, the waiting costs no time, and the part `data` takes 0 s.

    Attributes:
        device: the device of the networks; the CPU until it is set.
        before_batch: called before each request for a batch. The time of the call belongs to the previous part. The
            called function can start and stop the recording and the tracing.
        traces: whether the parts also appear as ranges in the trace of torch's profiler.
        hidden: the name of the hook plugin that makes the measurement. Its hooks do not appear in the trace.
    """

    def __init__(self) -> None:
        super().__init__()
        self.device = torch.device("cpu")
        self.before_batch: Callable[[], object] = list
        self.traces = False
        self.hidden = ""
        self._stack: list[str] = ["outside"]
        self._ranges: list[AbstractContextManager[Any]] = []
        self._records = False
        self._borders: list[tuple[str, Any]] = []
        self._step_starts: list[int] = []

    def start(self) -> None:
        """Starts the recording."""
        self._records, self._borders, self._step_starts = True, [], []

    def begin_step(self) -> None:
        """Marks the batch that is requested next as the first batch of a step."""
        self._step_starts.append(len(self._borders))

    def stop(self) -> None:
        """Ends the recording."""
        self._note("end")
        self._records = False

    def begin(self, part: StepPart) -> None:
        """Ends the current part, and begins the part `part`."""
        super().begin(part)
        if part == "data":
            self.before_batch()
        self._stack[0] = part
        if len(self._stack) > 1:  # a hook has called the trainer, so the time still belongs to the hook
            return
        self._note(part)
        if self.traces or self._ranges:
            self._end_ranges()
            if self.traces:
                self._begin_range(part)

    def enter(self, plugin: str) -> None:
        """Begins the time of a hook of the hook plugin `plugin`."""
        self._stack.append(HOOK + plugin)
        self._note(self._stack[-1])
        if self.traces and plugin != self.hidden:
            self._begin_range(self._stack[-1])

    def leave(self) -> None:
        """Ends the time of the hook that began last."""
        self._stack.pop()
        self._note(self._stack[-1])
        # If tracing started during this hook, the hook has no range to close.
        if self.traces and len(self._ranges) > len(self._stack):
            self._ranges.pop().__exit__(None, None, None)

    def end_trace(self) -> None:
        """Stops tracing, and closes the ranges that are still open."""
        self.traces = False
        self._end_ranges()

    def _note(self, part: str) -> None:
        if not self._records:
            return
        stamp: Any
        if self.device.type == "cuda":
            stamp = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            stamp.record(torch.cuda.current_stream(self.device))
        else:
            stamp = perf_counter()
        self._borders.append((part, stamp))

    def _begin_range(self, name: str) -> None:
        opened: AbstractContextManager[Any] = record_function(name)
        opened.__enter__()
        self._ranges.append(opened)

    def _end_ranges(self) -> None:
        while self._ranges:
            self._ranges.pop().__exit__(None, None, None)

    def measured(self) -> StepTimes:
        """Returns the times between `start` and `stop`. Waits for the GPU."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        stamps = [stamp for _, stamp in self._borders]
        parts: dict[str, float] = {}
        for (name, begin), end in zip(self._borders, stamps[1:], strict=False):
            parts[name] = parts.get(name, 0.0) + self._between(begin, end)
        starts = [stamps[index] for index in self._step_starts] + stamps[-1:]
        steps = [self._between(begin, end) for begin, end in pairwise(starts)]
        return StepTimes(steps, parts)

    @staticmethod
    def _between(begin: Any, end: Any) -> float:
        seconds: float = end - begin if isinstance(begin, float) else begin.elapsed_time(end) / 1000
        return seconds
