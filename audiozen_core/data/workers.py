"""The processes that make batches. They ignore the signals that the main process handles, and never outlive it."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import multiprocessing

# Imported first, because exit handlers run in reverse order and its handler must run after ours.
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

    Torch and Python stop forgotten workers with SIGTERM and then wait for them. Our workers ignore SIGTERM, so Torch
    and Python would wait forever. Returns a function that stops the workers at once.
    """
    finalizer = weakref.finalize(owner, stop_workers, iterator)
    finalizer.atexit = False  # at exit `_stop_all_workers` calls it, before multiprocessing waits for the workers
    _finalizers[:] = [*(other for other in _finalizers if other.alive), finalizer]
    return finalizer


@atexit.register
def _stop_all_workers() -> None:
    for finalizer in _finalizers:
        finalizer()


@contextlib.contextmanager
def starting_workers() -> Iterator[None]:
    """Blocks signals while workers start, and stops the started ones if another one can't be started.

    A worker inherits the blocked signals, so that no signal can end it before `start_worker` ignores them. If a start
    fails, torch does not know the workers that it started before.
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
    """Runs first in each worker: ignores signals, and asks the system to end the worker with the main process."""
    for number in _main_signals():
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _main_signals())
    # Linux only. Elsewhere a thread of torch notices within seconds that the main process has ended.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(getattr(signal, "SIGKILL", 9)), 0, 0, 0)
    if _is_orphan():
        os._exit(1)


def _main_signals() -> list[int]:
    return [getattr(signal, name) for name in MAIN_PROCESS_SIGNALS if hasattr(signal, name)]


def _is_orphan() -> bool:
    """Checks whether the main process ended before the call of `prctl`. In this case, the call has no effect."""
    parent = multiprocessing.parent_process()
    # With `forkserver`, the parent of the worker is a server process.
    return parent is not None and multiprocessing.get_start_method() != "forkserver" and os.getppid() != parent.pid


def stop_workers(iterator: Any) -> None:
    """Stops the workers of a loader's iterator, even workers that hang. Leaves others as they are."""
    shut_down = getattr(iterator, "_shutdown_workers", None)
    if shut_down is None:
        return
    shut_down()
    for worker in getattr(iterator, "_workers", ()):
        if worker.is_alive():
            worker.kill()
            worker.join()
