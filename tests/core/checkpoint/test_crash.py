"""A save that is interrupted at any file operation leaves the old or the new checkpoint intact."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from audiozen_core.checkpoint.errors import CheckpointWriteError, NoCheckpointError
from audiozen_core.checkpoint.format import checkpoint
from audiozen_core.checkpoint.store import CheckpointStore
from tests.core.checkpoint.exactness import difference
from tests.core.checkpoint.faulty_disk import Fault, FaultyDisk, KilledError, install

# These tests run the same lines thousands of times. Measuring the coverage of all runs would double the time.
pytestmark = pytest.mark.no_cover


def state(epoch: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(epoch)
    return {
        "model": {"weight": torch.randn(5, 3, generator=generator), "steps": torch.tensor(epoch)},
        "trainer": {"epoch": epoch, "best": None, "betas": (0.9, 0.99)},
    }


def save(store: CheckpointStore, content: int, *, epoch: int | None = None, **arguments: Any) -> None:
    store.save(state(content), epoch=content if epoch is None else epoch, step=content, **arguments)


class Scenario:
    """An initial folder, a save or rewind to interrupt, and the allowed results.

    Attributes:
        before: fills the initial folder.
        act: the save or rewind to interrupt.
        latest: the contents that `latest` may have afterwards; None means no checkpoint at all.
        best: the contents that `best` may have.
        links: whether the file system has symbolic links.
    """

    def __init__(
        self, before: Callable[[CheckpointStore], None], act: Callable[[CheckpointStore], None],
        latest: set[int | None], best: set[int | None], *, links: bool = True,
    ) -> None:  # fmt: skip
        self.before, self.act, self.latest, self.best, self.links = before, act, latest, best, links


def two_epochs(store: CheckpointStore) -> None:
    save(store, 1, is_best=True)
    save(store, 2)


def three_epochs(store: CheckpointStore) -> None:
    two_epochs(store)
    save(store, 3, is_best=True)


SCENARIOS = {
    "first save": Scenario(lambda store: None, lambda store: save(store, 1, is_best=True), {None, 1}, {None, 1}),
    "next save": Scenario(two_epochs, lambda store: save(store, 3), {2, 3}, {1}),
    "new best, others pruned": Scenario(two_epochs, lambda store: save(store, 3, is_best=True, keep=1), {2, 3}, {1, 3}),
    "same name": Scenario(two_epochs, lambda store: save(store, 7, epoch=2), {2, 7}, {1}),
    "best saved again": Scenario(
        three_epochs, lambda store: save(store, 7, epoch=3, is_best=True, keep=2), {3, 7}, {3, 7}
    ),
    "best saved again, no links": Scenario(
        three_epochs, lambda store: save(store, 7, epoch=3, is_best=True, keep=2), {3, 7}, {3, 7}, links=False
    ),
    "rewind, no links": Scenario(
        three_epochs, lambda store: store.rewind(store.folder / "epoch_0001"), {1, 3}, {1, 3}, links=False
    ),
    "rewind": Scenario(three_epochs, lambda store: store.rewind(store.folder / "epoch_0001"), {1, 3}, {1, 3}),
}


class Workbench:
    """Copies the initial folder of a scenario for each attempt."""

    def __init__(self, folder: Path, scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.scenario, self.monkeypatch = folder, scenario, monkeypatch
        self.count = 0
        start = folder / "start"
        start.mkdir()
        self.healthy(start)
        scenario.before(CheckpointStore(start / "exp" / "checkpoints"))

    def fresh(self) -> Path:
        self.count += 1
        return Path(shutil.copytree(self.folder / "start", self.folder / f"try_{self.count}", symlinks=True))

    def healthy(self, root: Path) -> FaultyDisk:
        return install(self.monkeypatch, FaultyDisk(root, links=self.scenario.links))

    def attempt(self, fault: Fault | None) -> tuple[Path, FaultyDisk, BaseException | None]:
        root = self.fresh()
        disk = install(self.monkeypatch, FaultyDisk(root, fault, self.scenario.links))
        try:
            self.scenario.act(CheckpointStore(root / "exp" / "checkpoints"))
        except (KilledError, CheckpointWriteError) as error:
            return root, disk, error
        return root, disk, None


# The others differ little from one of these, and belong to the long tests.
SHORT = ("first save", "next save", "best saved again", "rewind, no links")


@pytest.fixture(params=[name if name in SHORT else pytest.param(name, marks=pytest.mark.slow) for name in SCENARIOS])
def bench(request, tmp_path, monkeypatch):
    return Workbench(tmp_path, SCENARIOS[request.param], monkeypatch)


def found(store: CheckpointStore, which: str) -> int | None:
    """Returns the number of the state that `which` loads. Checks that the state is exactly what was saved."""
    try:
        loaded = store.load(which)
    except NoCheckpointError:
        return None
    content = loaded.state["trainer"]["epoch"]
    assert difference(loaded.state, state(content)) is None
    assert loaded.step == content
    return content


def assert_sound(bench: Workbench, root: Path) -> None:
    """Checks that readers and the next run find the old or the new checkpoint, and that the next run can save."""
    bench.healthy(root)
    store = CheckpointStore(root / "exp" / "checkpoints")
    before = found(store, "latest")
    assert before in bench.scenario.latest
    assert found(store, "best") in bench.scenario.best

    store.sweep()
    if before is not None:
        store.rewind(store.load().path)
    assert found(store, "latest") == before
    assert found(store, "best") in bench.scenario.best
    if store.folder.exists():
        assert [entry.name for entry in store.folder.iterdir() if entry.name.startswith(".")] == []
    assert [info.reason for info in store.list() if not info.intact] == []

    save(store, 9, is_best=True, keep=2)
    assert (found(store, "latest"), found(store, "best")) == (9, 9)
    assert len(store.list()) <= 2


def operations(bench: Workbench) -> list[str]:
    """Returns the operations of the scenario without a fault."""
    _, disk, error = bench.attempt(None)
    assert error is None
    return disk.done


def strays(root: Path) -> list[str]:
    folder = root / "exp" / "checkpoints"
    return [entry.name for entry in folder.iterdir() if entry.name.startswith(".")] if folder.exists() else []


@pytest.mark.parametrize("kind", ["kill before", "kill within"])
def test_kill_at_any_operation_leaves_the_old_or_new_checkpoint_intact(bench, kind, record_property):
    for at, operation in enumerate(operations(bench)):
        if kind == "kill within" and not operation.startswith("write"):
            continue
        root, _, error = bench.attempt(Fault(at, kind))
        assert isinstance(error, KilledError)
        assert_sound(bench, root)
    record_property("crash points", bench.count - 1)


def test_power_cut_at_any_operation_leaves_the_old_or_new_checkpoint_intact(bench, record_property):
    for at, _ in enumerate(operations(bench)):
        _, disk, error = bench.attempt(Fault(at, "kill before"))
        assert isinstance(error, KilledError)
        root = bench.folder / f"cut_{at}"
        disk.after_power_cut(root)
        assert_sound(bench, root)
    record_property("crash points", bench.count - 1)


def test_checkpoint_survives_a_power_cut_right_after_its_save(bench):
    root, disk, _ = bench.attempt(None)
    disk.after_power_cut(bench.folder / "cut")
    bench.healthy(bench.folder)
    cut, kept = (CheckpointStore(base / "exp" / "checkpoints") for base in (bench.folder / "cut", root))
    assert found(cut, "latest") == found(kept, "latest")
    assert found(cut, "best") == found(kept, "best")


@pytest.mark.parametrize(("code", "lasting"), [(errno.ENOSPC, True), (errno.EIO, False)], ids=["full", "EIO"])
def test_error_at_any_operation_leaves_no_partial_checkpoint(bench, record_property, code, lasting):
    for at, operation in enumerate(operations(bench)):
        root, _, error = bench.attempt(Fault(at, "error", code, lasting))
        if error is None:  # Only the deletion of a replaced or pruned checkpoint may fail without an error.
            assert operation.split()[0] in ("unlink", "rmdir", "rename", "fsync")
        else:
            assert isinstance(error, CheckpointWriteError)
            assert strays(root) == [] or operation.split()[0] in ("fsync", "unlink", "rmdir")
        assert_sound(bench, root)
    record_property("crash points", bench.count - 1)


@pytest.mark.parametrize("bench", ["next save", "best saved again"], indirect=True)
def test_these_tests_detect_a_save_that_writes_in_place(bench, monkeypatch):
    monkeypatch.setattr(checkpoint, "temporary_name", lambda name: "epoch_0099")
    reasons = []
    for at, _ in enumerate(operations(bench)):
        root, _, _ = bench.attempt(Fault(at, "kill before"))
        reasons += [info.reason for info in CheckpointStore(root / "exp" / "checkpoints").list() if not info.intact]
    assert "it has no manifest.json" in reasons


@pytest.mark.parametrize("bench", ["next save"], indirect=True)
def test_these_tests_detect_a_save_that_does_not_sync(bench, monkeypatch):
    monkeypatch.setattr(FaultyDisk, "fsync", lambda disk, descriptor: None)
    _, disk, _ = bench.attempt(None)
    disk.after_power_cut(bench.folder / "cut")
    bench.healthy(bench.folder)
    assert found(CheckpointStore(bench.folder / "cut" / "exp" / "checkpoints"), "latest") == 2
