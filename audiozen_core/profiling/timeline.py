"""The borders between the parts of a step, on the processor or on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import Any

import torch
from torch.profiler import record_function

from audiozen_core.trainer.step_clock import Part, StepClock

HOOK = "hook "
"""The start of the name of a part that is a hook."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What has been measured.

    Attributes:
        steps: the seconds of each optimiser step, from the moment when it asks for its first batch to the moment when
            the next step does.
        parts: the seconds of all steps together, by the name of the part. The hooks are parts of their own, and their
            time is not in the part that they were called in.
    """

    steps: Sequence[float]
    parts: Mapping[str, float]


class Timeline(StepClock):
    """Notes each border between two parts or hooks while it records, instead of only adding up.

    On a GPU a border is an event in the queue of its work, which is read when everything is measured. So the time of a
    part is how long the GPU needs for it, and waits in it for the program, and the training never waits to be measured.
    While the GPU is behind, for example, the program may wait for data at no cost, and `data` is 0.

    Attributes:
        device: where the networks are; the CPU until it is set.
        before_batch: called before each batch is asked for, the first of a step or another one. Its time belongs to
            the part before. It may start and stop the recording and the tracing.
        traces: whether the parts are also ranges in the trace of the profiler of torch.
        hidden: the name of a hook that gets no range, because this hook does the measuring.
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
        """Begins to record; the first step begins with the batch that is asked for next."""
        self._records, self._borders, self._step_starts = True, [], []

    def begin_step(self) -> None:
        """Says that the batch that is asked for next is the first one of a step."""
        self._step_starts.append(len(self._borders))

    def stop(self) -> None:
        """Ends the recording."""
        self._note("end")
        self._records = False

    def begin(self, part: Part) -> None:
        """Ends the part that lasts, and begins another one."""
        super().begin(part)
        if part == "data":
            self.before_batch()
        self._stack[0] = part
        if len(self._stack) > 1:  # a hook has called the trainer; its time is its own
            return
        self._note(part)
        if self.traces or self._ranges:
            self._end_ranges()
            if self.traces:
                self._begin_range(part)

    def enter(self, plugin: str) -> None:
        """A hook of this plugin begins."""
        self._stack.append(HOOK + plugin)
        self._note(self._stack[-1])
        if self.traces and plugin != self.hidden:
            self._begin_range(self._stack[-1])

    def leave(self) -> None:
        """The hook that has begun last ends."""
        self._stack.pop()
        self._note(self._stack[-1])
        # Tracing may have begun within this hook.
        if self.traces and len(self._ranges) > len(self._stack):
            self._ranges.pop().__exit__(None, None, None)

    def end_trace(self) -> None:
        """Ends the ranges that are still open."""
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

    def measured(self) -> Measured:
        """Returns the times between `start` and `stop`. Waits for the GPU."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        stamps = [stamp for _, stamp in self._borders]
        parts: dict[str, float] = {}
        for (name, begin), end in zip(self._borders, stamps[1:], strict=False):
            parts[name] = parts.get(name, 0.0) + self._between(begin, end)
        starts = [stamps[index] for index in self._step_starts] + stamps[-1:]
        steps = [self._between(begin, end) for begin, end in pairwise(starts)]
        return Measured(steps, parts)

    @staticmethod
    def _between(begin: Any, end: Any) -> float:
        seconds: float = end - begin if isinstance(begin, float) else begin.elapsed_time(end) / 1000
        return seconds
