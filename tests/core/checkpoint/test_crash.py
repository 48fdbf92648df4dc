"""A save is stopped at each of its file operations, in each way; the old or the new checkpoint is there, whole."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from audiozen_core.checkpoint import CheckpointStore, CheckpointWriteError, NoCheckpointError
from audiozen_core.checkpoint import store as store_module
from tests.core.checkpoint.exactness import difference
from tests.core.checkpoint.faulty_disk import Fault, FaultyDisk, KilledError, install


def state(epoch: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(epoch)
    return {
        "model": {"weight": torch.randn(5, 3, generator=generator), "steps": torch.tensor(epoch)},
        "trainer": {"epoch": epoch, "best": None, "betas": (0.9, 0.99)},
    }


def save(store: CheckpointStore, content: int, *, epoch: int | None = None, **arguments: Any) -> None:
    store.save(state(content), epoch=content if epoch is None else epoch, step=content, **arguments)


class Scenario:
    """A folder to start from, a save (or a rewind) to interrupt, and what may be found afterwards.

    Attributes:
        before: makes the folder.
        act: what is interrupted.
        latest: the contents that `latest` may have afterwards; None for no checkpoint at all.
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
    "the first": Scenario(lambda store: None, lambda store: save(store, 1, is_best=True), {None, 1}, {None, 1}),
    "the next": Scenario(two_epochs, lambda store: save(store, 3), {2, 3}, {1}),
    "a new best, the others pruned": Scenario(
        two_epochs, lambda store: save(store, 3, is_best=True, keep=1), {2, 3}, {1, 3}
    ),
    "one of the same name": Scenario(two_epochs, lambda store: save(store, 7, epoch=2), {2, 7}, {1}),
    "the best again": Scenario(
        three_epochs, lambda store: save(store, 7, epoch=3, is_best=True, keep=2), {3, 7}, {3, 7}
    ),
    "the best again, no links": Scenario(
        three_epochs, lambda store: save(store, 7, epoch=3, is_best=True, keep=2), {3, 7}, {3, 7}, links=False
    ),
    "a return to an earlier one, no links": Scenario(
        three_epochs, lambda store: store.rewind(store.folder / "epoch_0001"), {1, 3}, {1, 3}, links=False
    ),
    "a return to an earlier one": Scenario(
        three_epochs, lambda store: store.rewind(store.folder / "epoch_0001"), {1, 3}, {1, 3}
    ),
}


class Place:
    """Folders with a scenario's start, one for each try."""

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


@pytest.fixture(params=SCENARIOS)
def place(request, tmp_path, monkeypatch):
    return Place(tmp_path, SCENARIOS[request.param], monkeypatch)


def found(store: CheckpointStore, which: str) -> int | None:
    """The number of the state that `which` leads to, which must be exactly the one that was saved."""
    try:
        loaded = store.load(which)
    except NoCheckpointError:
        return None
    content = loaded.state["trainer"]["epoch"]
    assert difference(loaded.state, state(content)) is None
    assert loaded.step == content
    return content


def assert_sound(place: Place, root: Path) -> None:
    """A reader finds the old or the new; so does the next run after its sweep, and it can save."""
    place.healthy(root)
    store = CheckpointStore(root / "exp" / "checkpoints")
    before = found(store, "latest")
    assert before in place.scenario.latest
    assert found(store, "best") in place.scenario.best

    store.sweep()
    if before is not None:
        store.rewind(store.load().path)
    assert found(store, "latest") == before
    assert found(store, "best") in place.scenario.best
    if store.folder.exists():
        assert [entry.name for entry in store.folder.iterdir() if entry.name.startswith(".")] == []
    assert [info.reason for info in store.list() if not info.intact] == []

    save(store, 9, is_best=True, keep=2)
    assert (found(store, "latest"), found(store, "best")) == (9, 9)
    assert len(store.list()) <= 2


def operations(place: Place) -> list[str]:
    """What is done when nothing goes wrong."""
    _, disk, error = place.attempt(None)
    assert error is None
    return disk.done


def strays(root: Path) -> list[str]:
    folder = root / "exp" / "checkpoints"
    return [entry.name for entry in folder.iterdir() if entry.name.startswith(".")] if folder.exists() else []


@pytest.mark.parametrize("kind", ["kill before", "kill within"])
def test_killed_at_any_operation_the_old_or_the_new_checkpoint_is_whole(place, kind, record_property):
    for at, operation in enumerate(operations(place)):
        if kind == "kill within" and not operation.startswith("write"):
            continue
        root, _, error = place.attempt(Fault(at, kind))
        assert isinstance(error, KilledError)
        assert_sound(place, root)
    record_property("crash points", place.count - 1)


def test_a_power_cut_at_any_operation_leaves_the_old_or_the_new_checkpoint_whole(place, record_property):
    for at, _ in enumerate(operations(place)):
        _, disk, error = place.attempt(Fault(at, "kill before"))
        assert isinstance(error, KilledError)
        root = place.folder / f"cut_{at}"
        disk.after_power_cut(root)
        assert_sound(place, root)
    record_property("crash points", place.count - 1)


def test_what_has_been_saved_survives_a_power_cut_right_after_the_save(place):
    root, disk, _ = place.attempt(None)
    disk.after_power_cut(place.folder / "cut")
    place.healthy(place.folder)
    cut, kept = (CheckpointStore(base / "exp" / "checkpoints") for base in (place.folder / "cut", root))
    assert found(cut, "latest") == found(kept, "latest")
    assert found(cut, "best") == found(kept, "best")


@pytest.mark.parametrize(("code", "lasting"), [(errno.ENOSPC, True), (errno.EIO, False)], ids=["full", "EIO"])
def test_refused_at_any_operation_nothing_is_lost_and_no_half_checkpoint_stays(place, record_property, code, lasting):
    for at, operation in enumerate(operations(place)):
        root, _, error = place.attempt(Fault(at, "refuse", code, lasting))
        if error is None:  # only the clearing away of what has been replaced or pruned may fail without an error
            assert operation.split()[0] in ("unlink", "rmdir", "rename", "fsync")
        else:
            assert isinstance(error, CheckpointWriteError)
            assert strays(root) == [] or operation.split()[0] in ("fsync", "unlink", "rmdir")
        assert_sound(place, root)
    record_property("crash points", place.count - 1)


@pytest.mark.parametrize("place", ["the next", "the best again"], indirect=True)
def test_these_tests_would_see_a_save_that_writes_in_place(place, monkeypatch):
    monkeypatch.setattr(store_module, "temporary_name", lambda name: "epoch_0099")
    reasons = []
    for at, _ in enumerate(operations(place)):
        root, _, _ = place.attempt(Fault(at, "kill before"))
        reasons += [info.reason for info in CheckpointStore(root / "exp" / "checkpoints").list() if not info.intact]
    assert "it has no manifest.json" in reasons


@pytest.mark.parametrize("place", ["the next"], indirect=True)
def test_these_tests_would_see_a_save_that_does_not_sync(place, monkeypatch):
    monkeypatch.setattr(FaultyDisk, "fsync", lambda disk, descriptor: None)
    _, disk, _ = place.attempt(None)
    disk.after_power_cut(place.folder / "cut")
    place.healthy(place.folder)
    assert found(CheckpointStore(place.folder / "cut" / "exp" / "checkpoints"), "latest") == 2
