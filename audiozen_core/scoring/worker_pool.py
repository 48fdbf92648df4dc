"""Runs many steps in several processes. If a step fails or crashes its process, the other steps continue."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import multiprocessing

# Imported before our exit handler is registered, because exit handlers run in reverse order and the handler of
# multiprocessing must run last.
import multiprocessing.util
import signal
import sys
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

import torch

from audiozen_core.data.workers import start_worker, starting_workers
from audiozen_core.diagnostics.printable import printable
from audiozen_core.errors import AudioZenError, exception_text

_START_METHOD = "fork" if sys.platform == "linux" else "spawn"
"""A forked process starts immediately and inherits all data, but Windows can't fork, and macOS can't fork safely."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # options of mallopt(3)
_KEPT_BYTES = 1 << 25  # larger arrays are returned to the system; glibc does not accept a larger value

Step = TypeVar("Step")
Result = TypeVar("Result")


_started: weakref.WeakSet[Any] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """Stops running workers, because they ignore SIGTERM and multiprocessing would wait for them forever."""
    for worker in list(_started):
        worker.stop()


@dataclass(frozen=True, slots=True)
class FailedStep:
    """The result of a step that has failed; `reason` says why."""

    reason: str


def workers_are_copies() -> bool:
    """Returns whether workers are forked from this process and therefore inherit its imported modules."""
    return _START_METHOD == "fork"


def no_more(step: Any, result: Any) -> Sequence[Any]:
    """Returns no further steps. This is the default of `then` in `run_jobs`."""
    return ()


def run_jobs(
    work: Callable[[Step], Result],
    jobs: Iterable[Sequence[Step]],
    *,
    workers: int,
    then: Callable[[Step, Result | FailedStep], Sequence[Step]] = no_more,
) -> Generator[tuple[Step, Result | FailedStep], None, None]:
    """Runs the steps of many jobs, and yields each result as soon as it is ready, in any order.

    Each worker is a process with one thread, which is forked from this process on systems that support forking. The
    steps of a job run one after another in the same worker. If a worker dies, a new worker takes its place. An
    interruption ends all workers.

    Args:
        work: computes a step.
        jobs: the steps of each job.
        workers: the number of worker processes; 0 runs all steps in this process, with one torch thread.
        then: called in this process with a step and its result; returns further steps for the same job.

    Yields:
        Each step with its result. If `work` raised an exception or its process died, the result is `FailedStep`.
    """
    if not workers:
        yield from _in_this_process(work, jobs, then)
        return
    waiting = deque(deque(job) for job in jobs if job)
    pool: list[Worker[Step, Result]] = [Worker(work) for _ in range(min(workers, len(waiting)))]
    jobs_of: dict[Worker[Step, Result], deque[Step]] = {}

    def start(worker: Worker[Step, Result], job: deque[Step]) -> None:
        if job or waiting:
            jobs_of[worker] = job or waiting.popleft()
            worker.send(jobs_of[worker][0])

    try:
        for worker in pool:
            start(worker, deque())
        while jobs_of:
            pipes = {worker.pipe: worker for worker in jobs_of}
            for pipe in wait(list(pipes)):
                worker = pipes[pipe]
                job = jobs_of.pop(worker)
                step = job.popleft()
                try:
                    result: Result | FailedStep = worker.receive()
                except DeadWorkerError as dead:
                    result = FailedStep(f"the worker process died ({dead})")
                    pool[pool.index(worker)] = worker = Worker(work)
                job.extend(then(step, result))
                start(worker, job)
                yield step, result
    finally:
        for worker in pool:
            worker.stop()


class DeadWorkerError(Exception):
    """A worker has died. The message says how it died, such as `signal SIGKILL`."""


class Worker(Generic[Step, Result]):
    """A process with one thread that computes one step at a time. It ignores SIGTERM and the other signals of a run.

    Args:
        work: computes a step. Where processes are forked, it need not be picklable.
    """

    def __init__(self, work: Callable[[Step], Result]) -> None:
        context: Any = multiprocessing.get_context(_START_METHOD)
        self.pipe, worker_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(work, worker_end, self.pipe), daemon=True)
        _started.add(self)
        with starting_workers():
            self._process.start()
        worker_end.close()

    def send(self, step: Step) -> None:
        """Sends a step to the worker, which must be idle."""
        with contextlib.suppress(OSError):  # if the worker has died, `receive` raises the error
            self.pipe.send(step)

    def receive(self) -> Result | FailedStep:
        """Waits for the result of the step.

        Raises:
            DeadWorkerError: the worker has died.
        """
        try:
            result: Result | FailedStep = self.pipe.recv()
        except (EOFError, OSError):
            raise DeadWorkerError(self._exit_reason()) from None
        return result

    def _exit_reason(self) -> str:
        self._process.join()
        code = self._process.exitcode
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"signal {signal.Signals(-code).name}"
        return f"exit code {code}"

    def stop(self) -> None:
        """Ends the process at once."""
        self.pipe.close()
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()


def _serve(work: Callable[[Any], Any], pipe: Connection, other_end: Connection) -> None:
    """Computes the steps that arrive through a pipe, until the pipe is closed or the main process dies."""
    other_end.close()
    # A progress bar of the main process replaces the streams. Its lock may have been held when this process was forked.
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    start_worker(0)
    torch.set_num_threads(1)
    keep_freed_memory()
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.send(_attempt(work, pipe.recv()))


def keep_freed_memory() -> None:
    """Makes the C library keep freed memory, because the next file needs about the same amount of memory.

    Otherwise, the library returns each large array to the system, which must clear the memory pages before it provides
    them for the next array.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # not glibc
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        allocator.mallopt(_M_TRIM_THRESHOLD, 2 * _KEPT_BYTES)


def _in_this_process(
    work: Callable[[Step], Result],
    jobs: Iterable[Sequence[Step]],
    then: Callable[[Step, Result | FailedStep], Sequence[Step]],
) -> Iterator[tuple[Step, Result | FailedStep]]:
    for job in jobs:
        steps = deque(job)
        while steps:
            step = steps.popleft()
            with one_thread():
                result = _attempt(work, step)
            steps.extend(then(step, result))
            yield step, result


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Limits torch to one thread in the block, as in a worker. More threads could change the last bits of sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _attempt(work: Callable[[Step], Result], step: Step) -> Result | FailedStep:
    try:
        return work(step)
    except AudioZenError as error:
        return FailedStep(error.message)
    except Exception as error:
        return FailedStep(printable(exception_text(error)))
