"""Rates files in worker processes, so that the network can process further files while metrics are computed."""

from __future__ import annotations

import contextlib
import functools
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiozen_core.distributed.cpus import usable_cpus
from audiozen_core.errors import AudioZenError, RunError
from audiozen_core.scoring.metric import Metric, needs_of
from audiozen_core.scoring.over_speakers import MeanOverSpeakers
from audiozen_core.scoring.rating import FileToRate, Rated, RatedFile, Rater
from audiozen_core.scoring.worker_pool import (
    DeadWorkerError,
    FailedStep,
    Worker,
    one_thread,
    workers_are_copies,
)
from audiozen_core.trainer.held_modules import held_modules

_WORTH_SENDING = 0.01
"""A file is sent to a worker if its metrics take at least this many CPU seconds. Sending takes about a millisecond."""

_LONGEST = 4_000_000
"""A file whose signals have more samples than this in total is not sent to a worker, because all files that are being
rated at the same time must fit into memory."""


def default_workers(device: torch.device, processes: int) -> int:
    """Returns the default number of workers: one for each CPU that the network does not use, plus one.

    The additional worker makes up for idle time, because a worker that has finished a file waits until the main process
    has finished its current step. If the network uses all CPUs, the result is 0, because workers would slow down the
    network's threads.

    Args:
        device: the device of the network. On a CPU, the network uses as many CPUs as torch has threads; on a GPU, one.
        processes: the number of processes of the run on this machine.
    """
    left = usable_cpus() // processes - (torch.get_num_threads() if device.type == "cpu" else 1)
    return left + 1 if left > 0 else 0


class PendingRow(RatedFile):
    """A `RatedFile` whose values may not exist yet. Reading an attribute waits for them. A copy is a `RatedFile`."""

    __slots__ = ("_wait",)
    _wait: Callable[[], RatedFile]

    def __init__(self, waits: Callable[[], RatedFile]) -> None:
        object.__setattr__(self, "_wait", waits)

    id = property(lambda self: self._wait().id)
    values = property(lambda self: self._wait().values)
    faults = property(lambda self: self._wait().faults)
    group = property(lambda self: self._wait().group)

    def __eq__(self, other: object) -> bool:
        return bool(self._wait() == (other._wait() if isinstance(other, PendingRow) else other))

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        row: RatedFile = self._wait()
        return RatedFile, (row.id, row.values, row.faults, row.group)


@dataclass(slots=True, eq=False)
class _Task:
    """A file that is being rated."""

    rater: Rater
    file: FileToRate
    network_values: Rated
    row: RatedFile | None = None
    error: Exception | None = None

    def finish(self, rated: Rated) -> None:
        self.row = self.rater.finish(self.file, self.network_values, rated)
        # Free the memory of the signals.
        self.file.signals, self.file.far_end = {}, None


class RatingPool:
    """Rates files in worker processes, which are forked from the main process and exist for one evaluation.

    A value does not depend on where or when it is computed: torch always uses one thread, and random numbers depend
    only on the name of the file.

    The main process rates the first file of a rater, so that the modules of metrics are imported only once. It also
    rates files while all workers are busy, so that the number of files in memory is at most twice the number of
    workers. Metrics that hold a network always run immediately, in the main process. Where processes can't be forked,
    as on Windows, the main process rates all files.

    Args:
        workers: the number of workers; 0 for none. With None, `running` sets the number, and the main process rates all
            files until a file takes at least 10 ms of CPU time.
        argument: the name of the trainer's argument for `workers`, for the error about a worker that died.
    """

    def __init__(self, workers: int | None = None, *, argument: str = "") -> None:
        self._wanted = workers
        self._argument = argument
        self._count = 0
        self._rater: Rater | None = None
        self._workers: list[Worker[Any, Rated]] = []
        self._busy: dict[Worker[Any, Rated], _Task] = {}
        self._waiting: deque[_Task] = deque()
        self._failed: list[_Task] = []
        self._metrics: dict[Rater, tuple[tuple[Metric, ...], tuple[Metric, ...]]] = {}
        # The CPU seconds that the slowest file of each rater took, not counting the rater's first file.
        self._slowest: dict[Rater, float] = {}

    @contextlib.contextmanager
    def running(self, default: int) -> Iterator[None]:
        """Lets `rate` use workers inside the `with` block. At its end, waits for all files, and stops the workers.

        Args:
            default: the number of workers to use if `workers` in the constructor was None.
        """
        self._count = (default if self._wanted is None else self._wanted) if workers_are_copies() else 0
        try:
            yield
            self.finish()
        finally:
            self._count = 0
            self._stop()

    def rate(self, rater: Rater, name: str, signals: Mapping[str, Tensor | None], **options: Any) -> RatedFile:
        """Rates a file like `Rater.rate`, either immediately or in a worker.

        Raises:
            AudioZenError: the file is rated immediately, and `Rater.rate` raises an error.
        """
        file = rater.prepare(name, signals, **options)
        networks, others = self._divided(rater)
        network_values = rater.compute(file, networks)
        if not self._is_sent(rater, file, others):
            start = time.thread_time()
            rated = _compute(rater, file, others)
            spent = time.thread_time() - start
            self._slowest[rater] = max(self._slowest[rater], spent) if rater in self._slowest else 0.0
            return rater.finish(file, network_values, rated)
        if self._rater is not rater:
            self.finish()
            self._stop()
            self._rater = rater
        task = _Task(rater, file, network_values)
        self._waiting.append(task)
        self._advance()
        if len(self._waiting) > self._count:
            self._rate_here(self._waiting.popleft())
        return PendingRow(functools.partial(self._wait_for, task))

    def check(self) -> None:
        """Raises the error of the first file that has failed, if any file has failed."""
        self._advance()
        if self._failed:
            self._raise(self._failed[0])

    def finish(self) -> None:
        """Waits until all files have been rated. Raises an error if a file has failed."""
        while self._waiting or self._busy:
            self._advance()
            if self._waiting:
                self._rate_here(self._waiting.popleft())
            elif self._busy:
                wait([worker.pipe for worker in self._busy])
            self.check()

    def _is_sent(self, rater: Rater, file: FileToRate, metrics: Sequence[Metric]) -> bool:
        if not (self._count and metrics and rater in self._slowest):
            return False
        if sum(signal.numel() for signal in file.signals.values()) > _LONGEST:
            return False
        return self._wanted is not None or self._slowest[rater] >= _WORTH_SENDING

    def _divided(self, rater: Rater) -> tuple[tuple[Metric, ...], tuple[Metric, ...]]:
        """Returns two groups of metrics: those that hold or watch a network, and those that do not."""
        if rater not in self._metrics:
            networks = tuple(metric for metric in rater.metrics if _has_network(metric))
            self._metrics[rater] = networks, tuple(metric for metric in rater.metrics if metric not in networks)
        return self._metrics[rater]

    def _advance(self) -> None:
        """Receives the results that are ready, and sends waiting files to idle workers."""
        for worker in [worker for worker in self._busy if worker.pipe.poll()]:
            self._receive(worker)
        while self._waiting and len(self._busy) < self._count and not self._failed:
            idle = [worker for worker in self._workers if worker not in self._busy]
            worker = idle[0] if idle else self._new_worker()
            task = self._waiting.popleft()
            worker.send(_Sent.from_task(task))
            self._busy[worker] = task

    def _new_worker(self) -> Worker[Any, Rated]:
        assert self._rater is not None
        metrics = self._divided(self._rater)[1]
        self._workers.append(Worker(functools.partial(_compute_sent, self._rater, metrics)))
        return self._workers[-1]

    def _receive(self, worker: Worker[Any, Rated]) -> None:
        task = self._busy.pop(worker)
        try:
            result = worker.receive()
        except DeadWorkerError as dead:
            self._workers.remove(worker)
            worker.stop()
            names = ", ".join(f"`{metric.name}`" for metric in self._divided(task.rater)[1])
            without = f"`{self._argument} = 0` in [trainer.args] computes the metrics in the main process"
            self._fail(
                task,
                RunError(
                    f"the process that computed the metrics of `{task.file.name}` died ({dead})",
                    notes=(f"metrics: {names}",),
                    remedy=f"check whether the machine ran out of memory, or whether a metric crashes"
                    f"{f'; {without}' if self._argument else ''}",
                ),
            )
            return
        if isinstance(result, FailedStep):
            # Rating the file again raises the worker's error with its cause, which can't be sent between processes.
            self._rate_here(task)
        else:
            task.finish(result)

    def _rate_here(self, task: _Task) -> None:
        try:
            task.finish(_compute(task.rater, task.file, self._divided(task.rater)[1]))
        except AudioZenError as error:
            self._fail(task, error)

    def _fail(self, task: _Task, error: Exception) -> None:
        task.error = error
        self._failed.append(task)

    def _wait_for(self, task: _Task) -> RatedFile:
        if task in self._waiting:
            self._waiting.remove(task)
            self._rate_here(task)
        for worker in [worker for worker, current in self._busy.items() if current is task]:
            self._receive(worker)
        if task.row is None:
            self._raise(task)
        assert task.row is not None
        return task.row

    def _raise(self, task: _Task) -> None:
        raise task.error or RunError(
            f"`{task.file.name}` was not rated, because the evaluation has ended",
            remedy="read the values of a file before the evaluation ends",
        )

    def _stop(self) -> None:
        for worker in self._workers:
            worker.stop()
        self._workers, self._busy, self._rater = [], {}, None
        self._waiting.clear()
        self._failed.clear()


@dataclass(frozen=True, slots=True)
class _Sent:
    """The data that a worker needs to rate a file. Signals are NumPy arrays: torch would send tensors as open files."""

    name: str
    signals: dict[str, np.ndarray]
    states: list[str]
    far_end: np.ndarray | None
    text: str | None

    @classmethod
    def from_task(cls, task: _Task) -> _Sent:
        file = task.file
        signals = {kind: signal.detach().cpu().numpy() for kind, signal in file.signals.items()}
        far_end = None if file.far_end is None else file.far_end.detach().cpu().numpy()
        return cls(file.name, signals, task.rater.states_to_rate(file), far_end, file.text)


def _compute(rater: Rater, file: FileToRate, metrics: Sequence[Metric]) -> Rated:
    """Computes the values of a file. The result does not depend on when or in which process it is computed."""
    with one_thread():
        return rater.compute(file, metrics)


def _compute_sent(rater: Rater, metrics: Sequence[Metric], sent: _Sent) -> Rated:
    """Rates a file in a worker."""
    signals = {kind: torch.from_numpy(signal) for kind, signal in sent.signals.items()}
    far_end = None if sent.far_end is None else torch.from_numpy(sent.far_end)
    with torch.no_grad():
        return _compute(rater, FileToRate(sent.name, signals, sent.states, None, far_end, sent.text), metrics)


def _has_network(metric: Any) -> bool:
    inner: Any = metric.metric if isinstance(metric, MeanOverSpeakers) else metric
    if "network" in needs_of(inner) or getattr(inner, "weights", None):
        return True
    modules = [*held_modules(inner).values(), *[inner] * isinstance(inner, torch.nn.Module)]
    return any(next(module.parameters(), None) is not None for module in modules)
