"""After a rewind to an earlier checkpoint, later checkpoints are stale and are not loaded by default."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from audiozen_core.checkpoint.errors import NoCheckpointError
from audiozen_core.checkpoint.store import CheckpointStore
from tests.core.checkpoint.small_states import damage, names, save, state, weight


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "exp" / "baseline" / "checkpoints")


def test_after_a_rewind_later_checkpoints_are_stale_and_never_loaded_by_default(store):
    save(store, 1, 2, is_best=True)
    save(store, 3, 4, is_best=True)
    store.rewind(store.load(Path("epoch_0002")).path)
    assert names(store) == ["epoch_0001", "epoch_0002", "epoch_0003.stale", "epoch_0004.stale"]
    assert [info.stale for info in store.list()] == [False, False, True, True]
    assert (weight(store), weight(store, "best")) == (2, 2)
    store.save(state(33.0), epoch=3, step=30)
    assert weight(store) == 33
    damage(store.folder / "epoch_0003")
    assert weight(store) == 2


def test_a_rewind_after_a_fallback_makes_the_intact_checkpoint_the_latest(store):
    save(store, 1, 2, 3)
    damage(store.folder / "epoch_0003")
    store.rewind(store.load().path)
    assert store.latest == store.folder / "epoch_0002"
    assert [info.path.name for info in store.list() if not info.stale] == ["epoch_0001", "epoch_0002"]


def test_a_rewind_to_the_latest_changes_nothing(store):
    save(store, 1, 2, is_best=True)
    before = sorted((path.name, path.is_symlink()) for path in store.folder.iterdir())
    store.rewind(store.load().path)
    store.rewind(store.load(Path("epoch_0002")).path)
    assert sorted((path.name, path.is_symlink()) for path in store.folder.iterdir()) == before


def test_two_rewinds_keep_both_abandoned_branches_until_they_are_pruned(store):
    save(store, 1, 2)
    for value in (20.0, 30.0):
        store.rewind(store.folder / "epoch_0001")
        store.save(state(value), epoch=2, step=20)
    assert sorted(names(store)) == ["epoch_0001", "epoch_0002", "epoch_0002.stale", "epoch_0002.stale2"]
    assert weight(store, Path("epoch_0002.stale")) == 2
    save(store, 3, keep=3)
    assert sorted(names(store)) == ["epoch_0001", "epoch_0002", "epoch_0003"]


def test_a_rewind_to_a_stale_checkpoint_restores_its_name_and_its_best(store):
    save(store, 1)
    save(store, 2, is_best=True)
    assert store.rewind(store.folder / "epoch_0001") == ["epoch_0002"]
    assert store.best is None
    save(store, 3)
    assert store.rewind(store.load(Path("epoch_0002.stale")).path) == ["epoch_0003"]
    assert (weight(store), weight(store, "best")) == (2, 2)
    assert names(store) == ["epoch_0001", "epoch_0002", "epoch_0003.stale"]


def test_a_rewind_to_a_checkpoint_newer_than_latest_keeps_its_name(store):
    save(store, 1, 2)
    store._directory.set_link("latest", "epoch_0001")  # as if the run was killed before it updated the link
    assert store.rewind(store.folder / "epoch_0002") == []
    assert store.latest == store.folder / "epoch_0002"
    assert names(store) == ["epoch_0001", "epoch_0002"]


def test_stale_checkpoint_is_deleted_when_the_run_reaches_its_step(store):
    save(store, 1, 2, 3)
    store.rewind(store.folder / "epoch_0001")
    store.save(state(15.0), epoch=1, step=15, within_epoch=True, keep=1)
    assert sorted(names(store)) == ["epoch_0002.stale", "epoch_0002_step_0000015", "epoch_0003.stale"]
    store.save(state(25.0), epoch=2, step=25, within_epoch=True, keep=1)
    assert sorted(names(store)) == ["epoch_0003.stale", "epoch_0003_step_0000025"]
    store.save(state(30.0), epoch=3, step=30, keep=1)
    assert names(store) == ["epoch_0003"]


def test_pruning_damaged_checkpoints_moves_the_links(store):
    save(store, 1, 2)
    save(store, 3, is_best=True)
    damage(store.folder / "epoch_0003")
    store.prune(5, damaged=True)
    assert names(store) == ["epoch_0001", "epoch_0002"]
    assert (store.latest, store.best) == (store.folder / "epoch_0002", None)
    for name in ("epoch_0001", "epoch_0002"):
        damage(store.folder / name)
    store.prune(5, damaged=True)
    assert (names(store), store.latest) == ([], None)


def test_rewind_does_not_replace_a_missing_earlier_best_by_another_checkpoint(store):
    save(store, 1, is_best=True)
    save(store, 2)
    save(store, 3, is_best=True)
    shutil.rmtree(store.folder / "epoch_0001")
    store.rewind(store.folder / "epoch_0002")
    save(store, 3)
    assert (store.best, store.has_best) == (None, True)
    with pytest.raises(NoCheckpointError, match="the best checkpoint is epoch_0001, which does not exist"):
        store.load("best")


def test_resuming_from_another_experiment_makes_all_checkpoints_stale(store, tmp_path):
    save(store, 1, 2, is_best=True)
    other = CheckpointStore(tmp_path / "other" / "checkpoints")
    save(other, 5)
    store.rewind(other.load().path)
    assert names(store) == ["epoch_0001.stale", "epoch_0002.stale"]
    with pytest.raises(NoCheckpointError, match="has no checkpoints"):
        store.load()
    save(store, 6)
    assert weight(store) == 6
