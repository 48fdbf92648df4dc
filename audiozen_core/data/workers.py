"""Manages the worker processes that load batches.

Workers ignore the signals that the main process handles, and never outlive the main process.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import multiprocessing

# This import registers the exit handler of multiprocessing. Exit handlers run in reverse order of registration, and the
# handler of this file must run first.
import multiprocessing.util
import os
import signal
import weakref
from collections.abc import Iterator
from typing import Any

# A terminal or a scheduler sends these signals to every process of a run. Only the main process acts on them.
MAIN_PROCESS_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")

_PR_SET_PDEATHSIG = 1  # an option of Linux's prctl(2)


_finalizers: list[weakref.finalize[..., Any]] = []


def stop_workers_with(owner: object, iterator: Any) -> weakref.finalize[..., Any]:
    """Stops the workers of a loader's iterator when their owner is deleted or the process exits.

    By default, torch and Python would end workers with SIGTERM and then wait for them. Our workers ignore SIGTERM, so
    torch and Python would wait forever.

    Returns:
        A function that stops the workers immediately.
    """
    finalizer = weakref.finalize(owner, stop_workers, iterator)
    finalizer.atexit = False  # `_stop_all_workers` calls it at exit, before multiprocessing waits for the workers
    _finalizers[:] = [*(other for other in _finalizers if other.alive), finalizer]
    return finalizer


@atexit.register
def _stop_all_workers() -> None:
    for finalizer in _finalizers:
        finalizer()


@contextlib.contextmanager
def starting_workers() -> Iterator[None]:
    """Blocks signals while workers start, and kills the workers that have started if another one fails to start.

    A worker inherits the blocked signals, so that no signal can end it before `start_worker` ignores them. If a worker
    fails to start, torch loses track of the workers that it has already started.
    """
    others = multiprocessing.active_children()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _main_signals()) if hasattr(signal, "pthread_sigmask") else None
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
    """Runs first in each worker. Ignores signals, and asks the system to kill the worker when the main process ends."""
    for number in _main_signals():
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _main_signals())
    # This works on Linux only. On other systems, a thread of torch notices within seconds that the main process has
    # ended.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(getattr(signal, "SIGKILL", 9)), 0, 0, 0)
    if _is_orphan():
        os._exit(1)


def _main_signals() -> list[int]:
    return [getattr(signal, name) for name in MAIN_PROCESS_SIGNALS if hasattr(signal, name)]


def _is_orphan() -> bool:
    """Returns whether the main process ended before `prctl` was called. The call of `prctl` then had no effect."""
    parent = multiprocessing.parent_process()
    # With `forkserver`, the parent of the worker is a server process.
    return parent is not None and multiprocessing.get_start_method() != "forkserver" and os.getppid() != parent.pid


def stop_workers(iterator: Any) -> None:
    """Stops the workers of a loader's iterator, even if they hang. Does nothing for an iterator without workers."""
    shut_down = getattr(iterator, "_shutdown_workers", None)
    if shut_down is None:
        return
    shut_down()
    for worker in getattr(iterator, "_workers", ()):
        if worker.is_alive():
            worker.kill()
            worker.join()
