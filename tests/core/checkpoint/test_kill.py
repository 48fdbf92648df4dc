"""Checkpoints stay intact if a process that saves in a loop is killed many times."""

from __future__ import annotations

import multiprocessing
import random
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from audiozen_core.checkpoint.errors import NoCheckpointError
from audiozen_core.checkpoint.store import CheckpointStore

# Other tests cover the same code. Measuring the coverage here too would take longer than the tests themselves.
pytestmark = pytest.mark.no_cover

KILLS = 15
SIZE = 50_000


def save_in_a_loop(folder: Path, report: Connection) -> None:
    """Continues from the latest checkpoint, and reports the start and the end of each save."""
    torch.set_num_threads(1)
    store = CheckpointStore(folder)
    store.sweep()
    try:
        loaded = store.load()
        store.rewind(loaded.path)
        count = loaded.step
    except NoCheckpointError:
        count = 0
    while True:
        count += 1
        state = {"model": {"weight": torch.full((SIZE,), float(count))}, "trainer": {"count": count}}
        report.send(("saving", count))
        store.save(state, epoch=count % 4, step=count, is_best=count % 3 == 0, keep=2)
        report.send(("saved", count))


def test_checkpoints_survive_repeated_kills_during_saves(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "audiozen_core.checkpoint.format.checkpoint"])
    store = CheckpointStore(tmp_path / "checkpoints")
    chooser = random.Random(0)
    saved = 0
    for _ in range(KILLS):
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=save_in_a_loop, args=(store.folder, theirs), daemon=True)
        child.start()
        theirs.close()
        messages = [ours.recv() for _ in range(2 * chooser.randrange(1, 4) - 1)]
        spin(chooser.randrange(1_500_000))
        child.kill()
        child.join()
        messages += remaining(ours)
        saved = max([saved, *(count for what, count in messages if what == "saved")])
        started = max(count for _, count in messages)
        assert_sound(store, saved, started)
    assert saved >= KILLS
    store.sweep()
    assert [path.name for path in store.folder.iterdir() if path.name.startswith(".")] == []


def assert_sound(store: CheckpointStore, saved: int, started: int) -> None:
    """Checks that every checkpoint is intact, and that every reported save still exists or has a successor."""
    assert [info.reason for info in store.list() if not info.intact] == []
    if saved == 0:
        return
    loaded = store.load()
    count = loaded.state["trainer"]["count"]
    assert loaded.step == count
    assert saved <= count <= started
    assert torch.equal(loaded.state["model"]["weight"], torch.full((SIZE,), float(count)))
    if saved >= 3:
        assert store.load("best").state["trainer"]["count"] % 3 == 0


def remaining(connection: Connection) -> list[tuple[str, int]]:
    """Returns the messages that were sent before the process died."""
    messages = []
    try:
        while True:
            messages.append(connection.recv())
    except (EOFError, OSError):
        return messages


def spin(rounds: int) -> None:
    """Waits for a while without a clock."""
    for _ in range(rounds):
        pass
