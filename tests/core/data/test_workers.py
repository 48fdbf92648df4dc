"""Worker processes ignore signals, and end when their loader or the main process ends."""

import errno
import gc
import multiprocessing
import os
import signal
import subprocess
import sys

import pytest

from tests.tiny_training import make_loader

SCRIPT = """
import sys
sys.path.insert(0, {repository!r})
from tests.tiny_training import make_loader
loader = make_loader(num_workers=2)
batches = loader.epoch(1)
next(batches)
{end}
"""


class Cycle:
    """An object that refers to itself, so only the garbage collector frees it."""

    def __init__(self, loader):
        self.loader, self.itself = loader, self


def test_workers_end_when_the_garbage_collector_frees_their_loader():
    others = set(multiprocessing.active_children())
    cycle = Cycle(make_loader(num_workers=2))
    assert len(list(cycle.loader.epoch(1))) == 5
    workers = set(multiprocessing.active_children()) - others
    assert len(workers) == 2
    del cycle
    gc.collect()
    assert not any(worker.is_alive() for worker in workers)


def test_a_closed_loader_can_start_again():
    others = set(multiprocessing.active_children())
    loader = make_loader(num_workers=1)
    first = [batch["y"].tolist() for batch in loader.epoch(1)]
    loader.close()
    assert set(multiprocessing.active_children()) <= others
    assert [batch["y"].tolist() for batch in loader.epoch(1)] == first
    loader.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "end",
    [
        "",
        "raise ValueError",
        *(pytest.param(end, marks=pytest.mark.slow) for end in ("del loader, batches", "sys.exit(3)")),
    ],
)
def test_process_can_exit_while_its_loader_is_within_an_epoch(repository, end):
    script = SCRIPT.format(repository=str(repository), end=end)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, timeout=60)
    assert ended.returncode == {"raise ValueError": 1, "sys.exit(3)": 3}.get(end, 0)


def test_workers_are_stopped_if_another_worker_fails_to_start(monkeypatch):
    fork, forks = os.fork, iter([False, True])

    def fail_the_second():
        if next(forks):
            raise BlockingIOError(errno.EAGAIN, "no more processes")
        return fork()

    others = set(multiprocessing.active_children())
    monkeypatch.setattr(os, "fork", fail_the_second)
    with pytest.raises(BlockingIOError):
        next(make_loader(num_workers=2).epoch(1))
    assert set(multiprocessing.active_children()) <= others


def test_signal_does_not_stop_a_worker_that_is_starting(monkeypatch):
    fork = os.fork

    def fork_and_signal():
        pid = fork()
        if pid == 0:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
                os.kill(os.getpid(), number)
        return pid

    monkeypatch.setattr(os, "fork", fork_and_signal)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    loader = make_loader(num_workers=2)
    assert len(list(loader.epoch(1))) == 5
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    loader.close()
