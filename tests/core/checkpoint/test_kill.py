"""A process that saves without end is killed for real, again and again; what it leaves is whole."""

from __future__ import annotations

import multiprocessing
import random
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from audiozen_core.checkpoint import CheckpointStore, NoCheckpointError

KILLS = 15
SIZE = 50_000


def save_without_end(folder: Path, report: Connection) -> None:
    """Goes on from what is there, and tells of each save when it starts and when it is done."""
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


def test_repeated_kills_while_saving_lose_or_damage_no_checkpoint(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "audiozen_core.checkpoint.format.checkpoint"])
    store = CheckpointStore(tmp_path / "checkpoints")
    chooser = random.Random(0)
    saved = 0
    for _ in range(KILLS):
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=save_without_end, args=(store.folder, theirs), daemon=True)
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
    """What was reported as saved is there; all that is there is whole."""
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
    """What was sent before the end."""
    messages = []
    try:
        while True:
            messages.append(connection.recv())
    except (EOFError, OSError):
        return messages


def spin(rounds: int) -> None:
    """Lets a while go by without a look at a clock."""
    for _ in range(rounds):
        pass
