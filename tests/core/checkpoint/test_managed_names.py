"""The store leaves files of the user alone, and a copy without symbolic links works like the original."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from audiozen_core.checkpoint.errors import CheckpointWriteError
from audiozen_core.checkpoint.store import CheckpointStore
from tests.core.checkpoint.small_states import damage, names, save, weight


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "exp" / "baseline" / "checkpoints")


@pytest.fixture
def crowded(store, tmp_path):
    """Saves three checkpoints, and adds user files next to them."""
    save(store, 1, 2, 3)
    other = CheckpointStore(tmp_path / "other" / "checkpoints")
    save(other, *range(50, 60))
    shutil.copytree(other.folder / "epoch_0059", store.folder / "of_another_run")
    shutil.copytree(store.folder / "epoch_0001", store.folder / "keep_this_one")
    for name in ("epoch_0002_listening_notes", "my_dataset", "epoch_0009"):
        (store.folder / name).mkdir()
    (store.folder / "epoch_0002_listening_notes" / "notes.txt").write_text("hiss")
    (store.folder / "my_dataset" / "manifest.json").write_text("{}")
    (store.folder / "epoch_0009" / "talk.pptx").write_text("slides")
    (store.folder / ".download.partial").mkdir()
    return store


THEIRS = [".download.partial", "epoch_0002_listening_notes", "epoch_0009", "keep_this_one", "my_dataset"]
THEIRS += ["of_another_run"]


def theirs(store):
    return {name: sorted(path.name for path in (store.folder / name).iterdir()) for name in THEIRS}


def own(store):
    return sorted(name for name in names(store) if name not in THEIRS)


def test_files_of_the_user_are_neither_pruned_nor_renamed(crowded):
    before = theirs(crowded)
    crowded.sweep()
    save(crowded, 4, keep=2)
    assert own(crowded) == ["epoch_0003", "epoch_0004"]
    crowded.rewind(crowded.folder / "epoch_0003")
    assert own(crowded) == ["epoch_0003", "epoch_0004.stale"]
    damage(crowded.folder / "epoch_0004.stale")
    crowded.prune(1, damaged=True)
    assert own(crowded) == ["epoch_0003"]
    crowded.rewind(crowded.folder.parent / "elsewhere" / "epoch_0001")
    save(crowded, 5, keep=1)
    assert theirs(crowded) == before


def test_checkpoints_of_the_user_load_by_name_but_never_by_default(crowded):
    assert weight(crowded, Path("of_another_run")) == 59
    assert weight(crowded, Path("keep_this_one")) == 1
    for name in ("epoch_0002", "epoch_0003"):
        damage(crowded.folder / name)
    assert weight(crowded) == 1
    (crowded.folder / "latest").unlink()
    assert crowded.load().path.name == "epoch_0001"


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_checkpoint_gets_a_free_name_if_another_file_has_its_name(store, kind, tmp_path):
    save(store, 3)
    path = store.folder / "epoch_0004"
    if kind == "folder":
        path.mkdir()
        (path / "talk.pptx").write_text("slides")
    elif kind == "file":
        path.write_text("slides")
    else:
        path.symlink_to(tmp_path / "gone")
    save(store, 4)
    assert path.is_symlink() or path.is_file() or (path / "talk.pptx").exists()
    assert not (tmp_path / "gone").exists()
    assert names(store) == ["epoch_0003", "epoch_0004_2"]
    assert weight(store) == 4


def test_save_succeeds_if_a_damaged_checkpoint_has_the_same_name(store):
    save(store, 3, 4)
    for name in ("manifest.json", "state.json"):
        (store.folder / "epoch_0004" / name).unlink()
    save(store, 4)
    assert weight(store) == 4


# ----------------------------------------------------------------------------------------------- copies


def damage_size(path):
    (path / "model.safetensors").write_bytes(b"short")


@pytest.fixture
def copy(store):
    """Copies the store like `cp -rL`, so links become folders."""
    save(store, 1, is_best=True)
    save(store, 2)
    folder = store.folder.parent.parent / "copy" / "checkpoints"
    shutil.copytree(store.folder, folder, symlinks=False)
    assert not (folder / "latest").is_symlink()
    return CheckpointStore(folder)


def test_a_copy_with_folders_for_links_resumes_like_the_original(copy):
    assert names(copy) == ["epoch_0001", "epoch_0002"]
    assert (copy.latest, copy.best) == (copy.folder / "epoch_0002", copy.folder / "epoch_0001")
    assert (weight(copy), weight(copy, "best")) == (2, 1)
    copy.sweep()
    assert [(copy.folder / link).readlink().name for link in ("latest", "best")] == ["epoch_0002", "epoch_0001"]
    copy.rewind(copy.load().path)
    save(copy, 3, is_best=True)
    assert (weight(copy), weight(copy, "best")) == (3, 3)
    assert sorted(path.name for path in copy.folder.iterdir() if path.name.startswith(".")) == []


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_copy_with_missing_links_or_files_for_links_resumes_like_the_original(copy, kind):
    for link in ("latest", "best"):
        shutil.rmtree(copy.folder / link)
        if kind == "file":
            (copy.folder / link).write_text("epoch_0001")
    assert (weight(copy), weight(copy, "best")) == (2, 1)
    assert [(info.best, info.latest) for info in copy.list()] == [(True, False), (False, True)]
    copy.rewind(copy.load().path)
    assert (copy.folder / "latest").readlink().name == "epoch_0002"
    assert (copy.folder / "best").readlink().name == "epoch_0001"


def test_a_copy_without_links_falls_back_like_the_original(copy):
    damage(copy.folder / "epoch_0002")
    assert weight(copy) == 1


def test_stale_and_user_checkpoints_are_never_the_latest_of_a_copy(store):
    save(store, 1, is_best=True)
    save(store, 2, 3)
    store.rewind(store.folder / "epoch_0002")
    shutil.copytree(store.folder / "epoch_0003.stale", store.folder / "keep_this_one")
    for link in ("latest", "best"):
        (store.folder / link).unlink()
    assert (weight(store), weight(store, "best")) == (2, 1)


def test_rewind_to_a_copied_link_rewinds_to_its_target(copy):
    copy.rewind(copy.load(copy.folder / "best").path)
    assert names(copy) == ["epoch_0001", "epoch_0002.stale"]
    assert weight(copy) == 1


@pytest.mark.parametrize("link", ["latest", "best"])
def test_user_folder_named_like_a_link_is_not_deleted(store, link):
    save(store, 1, is_best=True)
    (store.folder / link).unlink()
    (store.folder / link).mkdir()
    (store.folder / link / "talk.pptx").write_text("slides")
    for act in (store.sweep, lambda: save(store, 2, is_best=True)):
        with pytest.raises(CheckpointWriteError, match=f"{link} is a folder, but must be a link to a checkpoint"):
            act()
    assert (store.folder / link / "talk.pptx").exists()
    assert names(store) == ["epoch_0001"]


@pytest.mark.parametrize("harm", [shutil.rmtree, damage_size], ids=["missing", "damaged"])
def test_the_only_intact_copy_of_a_checkpoint_is_not_deleted(copy, harm):
    harm(copy.folder / "epoch_0002")
    with pytest.raises(CheckpointWriteError, match="latest is a folder, but must be a link to a checkpoint"):
        copy.rewind(copy.folder / "epoch_0001")
    assert (copy.folder / "latest" / "manifest.json").exists()
