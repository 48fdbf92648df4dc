"""The processes that make batches: they leave signals to the main process, and never outlive it."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import multiprocessing
import multiprocessing.util  # registers its own work at exit, which must come after ours
import os
import signal
import weakref
from collections.abc import Iterator
from typing import Any

# Signals that a terminal or a scheduler sends to every process of a run. The main process decides what they mean.
LEFT_TO_THE_MAIN_PROCESS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")

_PR_SET_PDEATHSIG = 1


_endings: list[weakref.finalize[..., Any]] = []


def end_with(owner: object, iterator: Any) -> weakref.finalize[..., Any]:
    """Ends the workers of a loader's iterator when their owner is gone, when the process ends, or when it is called.

    Left to itself, torch sends workers SIGTERM as the garbage collector comes by, and so does Python at its exit, which
    waits for them besides. These ignore it.
    """
    ending = weakref.finalize(owner, close_workers, iterator)
    ending.atexit = False  # `_end_all` comes earlier
    _endings[:] = [*(other for other in _endings if other.alive), ending]
    return ending


@atexit.register
def _end_all() -> None:
    for ending in _endings:
        ending()


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """A block that starts workers.

    They are born with the signals held back, which would end them before they can ignore them. If not all can be
    started, those that have been are ended: nobody else knows them.
    """
    others = multiprocessing.active_children()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _left()) if hasattr(signal, "pthread_sigmask") else None
    try:
        yield
    except BaseException:
        for worker in multiprocessing.active_children():
            if worker not in others:
                worker.kill()
                worker.join()
        raise
    finally:
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(worker_id: int) -> None:
    """Runs in each worker first: signals are ignored, and the death of the main process is the worker's own."""
    for number in _left():
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _left())
    # Linux only; elsewhere torch's own watch notices within seconds.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(getattr(signal, "SIGKILL", 9)), 0, 0, 0)
    if _orphaned():
        os._exit(1)


def _left() -> list[int]:
    return [getattr(signal, name) for name in LEFT_TO_THE_MAIN_PROCESS if hasattr(signal, name)]


def _orphaned() -> bool:
    """Whether the main process died before this one could ask to be told; torch's watch does not notice that either."""
    parent = multiprocessing.parent_process()
    # Under the other start methods the parent in the sense of the system is another process.
    return parent is not None and multiprocessing.get_start_method() == "fork" and os.getppid() != parent.pid


def close_workers(iterator: Any) -> None:
    """Ends the workers of a loader's iterator, those that hang included; without workers nothing happens."""
    shut_down = getattr(iterator, "_shutdown_workers", None)
    if shut_down is None:
        return
    shut_down()
    for worker in getattr(iterator, "_workers", ()):
        if worker.is_alive():
            worker.kill()
            worker.join()
