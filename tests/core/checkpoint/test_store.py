"""Checkpoints are saved, listed, loaded and pruned."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from audiozen_core.checkpoint import directory
from audiozen_core.checkpoint.errors import (
    CheckpointWriteError,
    DamagedCheckpointError,
    NoCheckpointError,
    UnstorableStateError,
)
from audiozen_core.checkpoint.format import checkpoint
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.errors import CheckpointError
from audiozen_core.storage import atomic
from tests.core.checkpoint.exactness import difference
from tests.core.checkpoint.small_states import damage, names, save, state, weight


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "exp" / "baseline" / "checkpoints")


def test_a_checkpoint_has_the_documented_layout(store):
    path = store.save(state(), epoch=3, step=90, score=12.5, is_best=True)
    assert path == store.folder / "epoch_0003"
    assert sorted(file.name for file in path.iterdir()) == ["manifest.json", "model.safetensors", "state.json"]
    assert [(store.folder / link).readlink().name for link in ("latest", "best")] == ["epoch_0003", "epoch_0003"]
    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["epoch"], manifest["step"], manifest["score"], manifest["format"]) == (3, 90, 12.5, 2)
    assert manifest["files"]["model.safetensors"]["size"] == (path / "model.safetensors").stat().st_size
    assert safetensors.torch.load_file(path / "model.safetensors").keys() == {"layer.weight"}


@pytest.mark.parametrize("score", [None, 0.1, float("inf"), float("-inf"), float("nan")])
def test_a_saved_state_is_loaded_unchanged(store, score):
    store.save(state(), epoch=3, step=90, score=score)
    loaded = store.load()
    assert difference(loaded.state, state()) is None
    assert (loaded.epoch, loaded.step, repr(loaded.score)) == (3, 90, repr(score))


def test_load_reads_only_the_requested_states(store):
    path = store.save(state(), epoch=1, step=1)
    (path / "model.safetensors").write_bytes(bytes(path.joinpath("model.safetensors").stat().st_size))
    assert store.load(owners=["trainer"]).state == {"trainer": state()["trainer"]}
    with pytest.raises(DamagedCheckpointError):
        store.load(owners=["model"])
    with pytest.raises(CheckpointError, match="has no state of `optimizer`"):
        store.load(owners=["trainer", "optimizer"])


def test_every_owner_gets_its_own_file_for_any_name(store):
    owners = ["a/b", "a:b", "../../up", "Model", "model", "hooks.ema", "ü", ""]
    path = store.save({owner: {"x": torch.tensor(index)} for index, owner in enumerate(owners)}, epoch=1, step=1)
    loaded = store.load().state
    assert {owner: int(value["x"]) for owner, value in loaded.items()} == {o: i for i, o in enumerate(owners)}
    assert len({file.name.lower() for file in path.iterdir()}) == len(owners) + 2
    assert all(file.parent == path for file in store.folder.parent.rglob("*.safetensors"))


def test_file_modes_follow_the_umask(store):
    previous = os.umask(0o027)
    try:
        path = store.save(state(), epoch=1, step=1)
    finally:
        os.umask(previous)
    assert path.stat().st_mode & 0o777 == 0o750
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o640}


def test_best_and_latest_follow_the_saves(store):
    save(store, 1, is_best=True)
    save(store, 2, 3)
    assert (store.best, store.latest) == (store.folder / "epoch_0001", store.folder / "epoch_0003")
    assert (weight(store, "best"), weight(store)) == (1, 3)
    save(store, 4, is_best=True)
    assert (weight(store, "best"), weight(store)) == (4, 4)
    assert [(info.best, info.latest) for info in store.list()] == [(False, False)] * 3 + [(True, True)]


def test_the_list_describes_each_checkpoint(store):
    store.save(state(), epoch=1, step=10, score=0.5)
    (info,) = store.list()
    assert (info.epoch, info.step, info.score, info.intact, info.reason, info.stale) == (1, 10, 0.5, True, "", False)
    assert info.size == sum(file.stat().st_size for file in info.path.iterdir() if file.name != "manifest.json")
    (info.path / "manifest.json").unlink()
    (info,) = store.list()
    assert (info.epoch, info.step, info.score, info.size, info.intact) == (None, None, None, None, False)


def test_pruning_keeps_the_newest_checkpoints_and_always_best_and_latest(store):
    save(store, 1, is_best=True)
    save(store, 2, 3, 4, 5, keep=3)
    assert names(store) == ["epoch_0001", "epoch_0004", "epoch_0005"]
    save(store, 6, keep=1)
    assert names(store) == ["epoch_0001", "epoch_0006"]
    assert [path.name for path in store.prune(5)] == []


def test_newest_checkpoint_is_the_last_saved_and_not_the_highest_epoch(store):
    save(store, 30, 1, 2, keep=2)
    assert names(store) == ["epoch_0001", "epoch_0002"]


def test_pruning_does_not_count_damaged_checkpoints_and_deletes_them_on_request(store):
    save(store, 1, 2, 3, 4)
    (store.folder / "epoch_0003" / "manifest.json").unlink()
    assert [path.name for path in store.prune(2)] == ["epoch_0001"]
    assert [path.name for path in store.prune(2, damaged=True)] == ["epoch_0003"]
    assert names(store) == ["epoch_0002", "epoch_0004"]


def test_other_files_in_the_folder_are_not_deleted(store):
    save(store, 1)
    (store.folder / "notes").mkdir()
    (store.folder / "notes" / "thoughts.txt").touch()
    (store.folder / "elsewhere").symlink_to("epoch_0001")
    store.sweep()
    store.prune(1, damaged=True)
    assert names(store) == ["epoch_0001"]
    assert (store.folder / "notes" / "thoughts.txt").exists()
    assert (store.folder / "elsewhere").exists()


def test_second_save_of_an_epoch_gets_a_free_name_and_replaces_the_first(store):
    save(store, 1, 2)
    for value, name in ((7.0, "epoch_0002_2"), (8.0, "epoch_0002"), (9.0, "epoch_0002_2")):
        assert store.save(state(value), epoch=2, step=21).name == name
        assert names(store) == ["epoch_0001", name]
        assert weight(store) == value
    assert [entry for entry in store.folder.iterdir() if entry.name.startswith(".")] == []


def test_worse_checkpoint_of_the_same_epoch_does_not_delete_the_best(store):
    save(store, 1, is_best=True)
    for step in (15, 16):
        store.save(state(float(step)), epoch=1, step=step)
        assert len(names(store)) == 2
        assert (weight(store, "best"), weight(store)) == (1, step)


def test_the_best_state_saved_again_is_still_the_best(store):
    save(store, 1, is_best=True)
    save(store, 1)
    assert names(store) == ["epoch_0001_2"]
    assert weight(store, "best") == 1
    save(store, 2)
    store.sweep()
    assert store.best == store.folder / "epoch_0001_2"


def test_name_of_a_mid_epoch_checkpoint_contains_epoch_and_step(store):
    store.save(state(), epoch=1, step=17, within_epoch=True)
    assert names(store) == ["epoch_0002_step_0000017"]
    assert store.load(Path("epoch_0002_step_0000017")).epoch == 1


def test_unstorable_state_is_an_error_and_creates_no_files(store):
    with pytest.raises(UnstorableStateError, match=r"the state of `hooks\.mine` can't be stored: `hooks\.mine\['f'\]`"):
        store.save(state() | {"hooks.mine": {"f": lambda: None}}, epoch=1, step=1)
    assert not store.folder.exists()


# ----------------------------------------------------------------------------------------------- missing checkpoints


def test_loading_from_an_empty_folder_says_that_there_is_no_checkpoint(store):
    with pytest.raises(NoCheckpointError, match="has no checkpoints"):
        store.load()
    with pytest.raises(NoCheckpointError, match="no checkpoint is marked as the best"):
        store.load("best")
    assert store.list() == []
    assert list(store.sweep()) == []
    assert store.best is None


def test_the_error_for_a_missing_checkpoint_lists_the_existing_ones(store, tmp_path):
    save(store, 1, 2)
    with pytest.raises(NoCheckpointError) as caught:
        store.load(store.folder / "epoch_0009")
    assert "epoch_0001, epoch_0002" in caught.value.notes[0]
    with pytest.raises(NoCheckpointError, match=r"is not a checkpoint: it has no manifest\.json"):
        store.load(tmp_path)
    with pytest.raises(CheckpointError, match="is a file"):
        store.load(store.folder / "epoch_0001" / "model.safetensors")
    shutil.rmtree(store.folder / "epoch_0002")
    (store.folder / "best").symlink_to("epoch_0002")
    with pytest.raises(NoCheckpointError, match="the best checkpoint is epoch_0002, which does not exist"):
        store.load("best")


def test_a_checkpoint_of_another_experiment_is_loaded_by_path_or_link(store, tmp_path):
    save(store, 1, is_best=True)
    other = CheckpointStore(tmp_path / "other" / "checkpoints")
    assert weight(other, store.folder / "epoch_0001") == 1
    assert other.load(store.folder / "best").path == store.folder / "epoch_0001"


# ----------------------------------------------------------------------------------------------- damage


def test_damaged_latest_is_reported_and_the_newest_intact_checkpoint_is_loaded(store, capsys):
    save(store, 1, 2, 3)
    damage(store.folder / "epoch_0003")
    assert weight(store) == 2
    shown = capsys.readouterr().err
    assert "epoch_0003" in shown
    assert "hash differs" in shown
    assert store.locate() == store.folder / "epoch_0002"


def test_the_error_for_a_damaged_best_lists_the_intact_checkpoints(store):
    save(store, 1, is_best=True)
    save(store, 2, 3)
    damage(store.folder / "epoch_0001")
    with pytest.raises(DamagedCheckpointError, match=r"epoch_0001 can't be used: model\.safetensors") as caught:
        store.load("best")
    assert caught.value.remedy == "use an intact checkpoint: epoch_0002, epoch_0003"
    for name in ("epoch_0002", "epoch_0003"):
        damage(store.folder / name)
    with pytest.raises(DamagedCheckpointError) as caught:
        store.load("best")
    assert caught.value.remedy.startswith("delete or move the checkpoints of this run to start over")


def test_a_damaged_checkpoint_requested_by_name_is_an_error(store):
    save(store, 1, 2)
    damage(store.folder / "epoch_0002")
    with pytest.raises(DamagedCheckpointError, match="epoch_0002"):
        store.load(Path("epoch_0002"))


def test_error_names_each_checkpoint_if_all_are_damaged(store):
    save(store, 1, 2)
    damage(store.folder / "epoch_0001")
    (store.folder / "epoch_0002" / "state.json").unlink()
    with pytest.raises(
        DamagedCheckpointError, match=r"epoch_0002: state.json is missing; epoch_0001: model.safetensors"
    ) as caught:
        store.load()
    assert "start over" in caught.value.remedy
    assert "--ckpt-path" in caught.value.remedy


def test_quick_list_detects_wrong_sizes_and_full_list_detects_changed_bytes(store):
    save(store, 1, 2, 3)
    damage(store.folder / "epoch_0001")
    (store.folder / "epoch_0002" / "model.safetensors").write_bytes(b"short")
    assert [info.intact for info in store.list()] == [False, False, True]
    assert [info.intact for info in store.list(verify=False)] == [True, False, True]


@pytest.mark.parametrize("target", ["/etc", "../../elsewhere", "..", "epoch_0009"])
def test_a_link_out_of_the_folder_is_not_followed(store, target):
    save(store, 1, 2)
    (store.folder / "latest").unlink()
    (store.folder / "latest").symlink_to(target)
    assert store.latest == (None if target == "epoch_0009" else store.folder / "epoch_0002")
    assert weight(store) == 2


# ----------------------------------------------------------------------------------------------- the disk


def test_temporary_files_of_a_killed_run_are_deleted(store):
    save(store, 1)
    stray = store.folder / atomic.temporary_name("epoch_0002")
    stray.mkdir()
    (stray / "model.safetensors").touch()
    (store.folder / atomic.temporary_name("latest")).symlink_to("epoch_0001")
    assert len(store.sweep()) == 2
    assert sorted(path.name for path in store.folder.iterdir()) == ["epoch_0001", "latest"]


def test_too_little_space_is_reported_before_anything_is_written(store, monkeypatch):
    save(store, 1)
    usage = shutil.disk_usage(store.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(
        CheckpointWriteError, match=r"the disk has no space for .*: 0\.0 MB are free, and 1\.0 MB must stay"
    ):
        save(store, 2)
    assert names(store) == ["epoch_0001"]


@pytest.mark.parametrize(
    ("kind", "message"), [("link", "is a link to .*gone, which does not exist"), ("file", "is not a folder")]
)
def test_error_reports_a_file_or_dangling_link_in_place_of_the_folder(store, tmp_path, kind, message):
    store.folder.parent.mkdir(parents=True)
    store.folder.symlink_to(tmp_path / "gone") if kind == "link" else store.folder.touch()
    for act in (store.sweep, lambda: save(store, 1)):
        with pytest.raises(CheckpointWriteError, match=message):
            act()
    assert not (tmp_path / "gone").exists()


def test_checkpoint_folder_may_be_a_link_to_another_disk(store, tmp_path):
    (tmp_path / "disk").mkdir()
    store.folder.parent.mkdir(parents=True)
    store.folder.symlink_to(tmp_path / "disk")
    store.sweep()
    save(store, 1)
    assert (tmp_path / "disk" / "epoch_0001").is_dir()


def test_a_full_disk_is_an_error_with_a_remedy(store, monkeypatch):
    def fail(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "write", fail)
    with pytest.raises(CheckpointWriteError, match="No space left") as caught:
        save(store, 1)
    assert "free some disk space" in caught.value.remedy
    assert names(store) == []


def test_the_store_works_on_a_file_system_without_symbolic_links(store, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(atomic.os, "symlink", fail)
    save(store, 1, is_best=True)
    save(store, 2, 3, 4)
    assert not [path for path in store.folder.iterdir() if path.name in ("latest", "best") or path.name[0] == "."]
    assert (weight(store), weight(store, "best")) == (4, 1)
    assert [(info.best, info.latest) for info in store.list()] == [(True, False), *[(False, False)] * 2, (False, True)]
    store.prune(2)
    assert names(store) == ["epoch_0001", "epoch_0004"]
    store.rewind(store.folder / "epoch_0001")
    assert weight(store) == 1
    save(store, 5, is_best=True)
    assert (weight(store), weight(store, "best")) == (5, 5)


def test_load_returns_a_newer_checkpoint_if_a_run_deletes_the_requested_one(store, monkeypatch):
    store.save({"model": {"epoch": 1}}, epoch=1, step=1, is_best=True)
    read, saved = checkpoint.read_checkpoint, iter((2, 3))

    def read_slowly(path, *how):
        epoch = next(saved, None)
        if epoch:
            store.save({"model": {"epoch": epoch}}, epoch=epoch, step=epoch, is_best=True, keep=1)
            assert not path.exists()
        return read(path, *how)

    monkeypatch.setattr(checkpoint, "read_checkpoint", read_slowly)
    assert store.load("latest").epoch == 3
    saved = iter((4, 5))
    assert store.load("best").epoch == 5


def test_list_omits_a_checkpoint_that_a_run_deletes_meanwhile(store, monkeypatch):
    save(store, 1, 2)
    check_contents = directory.check_contents

    def check_slowly(path, manifest):
        if path.name == "epoch_0001":
            store.prune(1)
        check_contents(path, manifest)

    monkeypatch.setattr(directory, "check_contents", check_slowly)
    assert [(info.name, info.intact) for info in store.list()] == [("epoch_0002", True)]


@pytest.mark.parametrize("kind", ["large integer", "deep nesting"])
def test_a_value_beyond_the_limits_of_json_names_its_owner(tmp_path, kind):
    value = 10**5000
    if kind == "deep nesting":
        value = []
        for _ in range(2000):
            value = [value]
    with pytest.raises(UnstorableStateError, match="the state of `hook_ema` can't be stored"):
        CheckpointStore(tmp_path).save({"hook_ema": {"value": value}}, epoch=1, step=1)
    assert not list(tmp_path.iterdir())
