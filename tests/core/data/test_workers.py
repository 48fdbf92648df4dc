"""Worker processes ignore signals, and end with their loader or with the main process."""

import errno
import gc
import multiprocessing
import os
import signal
import subprocess
import sys

import pytest

from tests.tiny_training import make_loader

LEAVES = """
import sys
sys.path.insert(0, {repository!r})
from tests.tiny_training import make_loader
loader = make_loader(num_workers=2)
batches = loader.epoch(1)
next(batches)
{end}
"""


class Cycle:
    """Only the garbage collector frees it, because it refers to itself."""

    def __init__(self, loader):
        self.loader, self.itself = loader, self


def test_a_loader_that_the_garbage_collector_frees_leaves_no_workers():
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


@pytest.mark.parametrize("end", ["", "raise ValueError", "del loader, batches", "sys.exit(3)"])
def test_a_process_ends_while_its_loader_is_inside_an_epoch(repository, end):
    script = LEAVES.format(repository=str(repository), end=end)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, timeout=60)
    assert ended.returncode == {"raise ValueError": 1, "sys.exit(3)": 3}.get(end, 0)


def test_if_a_worker_cannot_be_started_the_others_are_stopped(monkeypatch):
    fork, forks = os.fork, iter([False, True])

    def refuse_the_second():
        if next(forks):
            raise BlockingIOError(errno.EAGAIN, "no more processes")
        return fork()

    others = set(multiprocessing.active_children())
    monkeypatch.setattr(os, "fork", refuse_the_second)
    with pytest.raises(BlockingIOError):
        next(make_loader(num_workers=2).epoch(1))
    assert set(multiprocessing.active_children()) <= others


def test_a_signal_does_not_end_a_worker_that_is_starting(monkeypatch):
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
