"""A copy of the folder `checkpoints` has the same `best`, however it was copied, or says that it is not known."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from audiozen_core.checkpoint.errors import CheckpointWriteError, NoCheckpointError
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.checkpoint.weights import load_weights
from tests.core.checkpoint.small_states import damage, save, weight


@pytest.fixture
def store(tmp_path):
    """Saves four checkpoints. The second is the best."""
    store = CheckpointStore(tmp_path / "exp" / "baseline" / "checkpoints")
    save(store, 1)
    save(store, 2, is_best=True, score=9.5)
    save(store, 3, 4)
    return store


@pytest.fixture
def copied(store, tmp_path):
    """Copies the folder like `cp -rL`: the links become folders."""
    folder = tmp_path / "copied" / "checkpoints"
    shutil.copytree(store.folder, folder, symlinks=False)
    return CheckpointStore(folder)


def remove_links(folder: Path) -> None:
    for link in ("best", "latest"):
        shutil.rmtree(folder / link)


def write_links_as_text(folder: Path) -> None:
    remove_links(folder)
    (folder / "best").write_text("epoch_0002")
    (folder / "latest").write_text("epoch_0004")


def empty_links(folder: Path) -> None:
    """Some archives keep a link to a folder as an empty folder."""
    remove_links(folder)
    (folder / "best").mkdir()
    (folder / "latest").mkdir()


def keep_only(*names: str):
    def keep(folder: Path) -> None:
        for path in folder.iterdir():
            if path.name not in names:
                shutil.rmtree(path)

    return keep


def keep_folders(folder: Path) -> None:
    pass


def change_times(folder: Path) -> None:
    for age, path in enumerate(sorted(folder.rglob("*"))):
        os.utime(path, (10**9 - age, 10**9 - age))


def link_absolutely(folder: Path) -> None:
    remove_links(folder)
    (folder / "best").symlink_to(folder / "epoch_0002")
    (folder / "latest").symlink_to("/nowhere/checkpoints/epoch_0004")


WAYS = {
    "folders for links": keep_folders,
    "no links": remove_links,
    "text files for links": write_links_as_text,
    "empty folders for links": empty_links,
    "other times": change_times,
    "absolute links": link_absolutely,
    "only `best`": keep_only("best"),
    "`best` and `latest`": keep_only("best", "latest"),
    "`best` and earlier ones": keep_only("best", "epoch_0001"),
    "`best` and later ones": keep_only("best", "epoch_0003", "epoch_0004"),
    "the best and the latest": keep_only("epoch_0002", "epoch_0004"),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_copy_has_the_best_checkpoint_of_the_original(copied, way):
    way(copied.folder)
    assert weight(copied, "best") == 2
    assert weight(copied, copied.folder / "best") == 2
    assert load_weights(copied.folder / "best")["layer.weight"][0, 0] == 2
    assert load_weights(copied.locate("best"))["layer.weight"][0, 0] == 2
    assert [info.score for info in copied.list() if info.best] == [9.5]


@pytest.mark.parametrize(
    ("names", "expected"), [(["latest"], 4), (["best", "latest"], 4), (["best"], 2), (["best", "epoch_0001"], 2)]
)
def test_latest_of_a_partial_copy_is_the_last_one_saved(copied, names, expected):
    keep_only(*names)(copied.folder)
    assert weight(copied) == expected


def test_folder_latest_is_the_best_if_it_was_when_it_was_saved(store, tmp_path):
    save(store, 5, is_best=True)
    (tmp_path / "copied").mkdir()
    shutil.copytree(store.folder / "latest", tmp_path / "copied" / "latest")
    assert weight(CheckpointStore(tmp_path / "copied"), "best") == 5


@pytest.mark.parametrize("names", [["latest"], ["epoch_0003", "epoch_0004"], ["latest", "epoch_0001"]])
def test_best_checkpoint_that_was_not_copied_is_an_error(copied, names):
    keep_only(*names)(copied.folder)
    assert copied.has_best
    with pytest.raises(NoCheckpointError, match="the best checkpoint is epoch_0002, which does not exist") as caught:
        copied.load("best")
    assert "--ckpt-path latest" in caught.value.remedy


def test_outdated_folder_best_is_not_the_best(store, copied):
    """A sync that was repeated without the links leaves the folder `best` of the first time."""
    save(store, 5, is_best=True)
    shutil.copytree(store.folder / "epoch_0005", copied.folder / "epoch_0005")
    assert (weight(copied, "best"), weight(copied)) == (5, 5)


def test_copy_of_a_run_without_a_best_checkpoint_has_none(tmp_path, store):
    other = CheckpointStore(tmp_path / "other")
    save(other, 1, 2)
    (other.folder / "latest").unlink()
    assert not other.has_best
    assert weight(other) == 2


# ----------------------------------------------------------------------------------------------- damage


def test_folder_best_replaces_the_damaged_checkpoint(copied):
    (copied.folder / "epoch_0002" / "manifest.json").unlink()
    assert weight(copied, "best") == 2
    assert copied.best == copied.folder / "best"


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_text("{}")], ids=["missing", "damaged"])
@pytest.mark.parametrize("link", [True, False], ids=["with links", "without links"])
def test_best_without_the_manifest_of_the_latest(store, harm, link, capsys):
    """Without the link, the lost manifest could name another one, so the log says that."""
    harm(store.folder / "epoch_0004" / "manifest.json")
    if not link:
        (store.folder / "best").unlink()
        (store.folder / "latest").unlink()
    assert weight(store, "best") == 2
    said = "a damaged checkpoint may be better than the one that is used as the best damaged=epoch_0004 used=epoch_0002"
    assert (said in capsys.readouterr().err) is not link


def test_damaged_best_is_an_error_in_a_copy_too(copied):
    remove_links(copied.folder)
    damage(copied.folder / "epoch_0002")
    with pytest.raises(Exception, match="epoch_0002 can't be used"):
        copied.load("best")


# ----------------------------------------------------------------------------------------------- training


def test_run_with_empty_folders_for_links_is_resumed_and_gets_its_links_back(copied):
    empty_links(copied.folder)
    assert weight(copied) == 4
    copied.sweep()
    copied.rewind(copied.load().path)
    assert [(copied.folder / link).readlink() for link in ("best", "latest")] == [
        Path("epoch_0002"),
        Path("epoch_0004"),
    ]
    save(copied, 5)
    assert weight(copied) == 5


@pytest.mark.parametrize(("link", "name"), [("best", "epoch_0002"), ("latest", "epoch_0004")])
def test_only_copy_of_a_checkpoint_is_resumed_after_the_renaming_that_the_error_asks_for(copied, link, name):
    keep_only(link)(copied.folder)
    with pytest.raises(CheckpointWriteError, match=f"{link} is a folder, but must be a link") as caught:
        copied.sweep()
    assert f"rename it to `{name}`" in caught.value.remedy
    (copied.folder / link).rename(copied.folder / name)
    copied.sweep()
    copied.rewind(copied.load().path)
    save(copied, 5)
    assert [info.name for info in copied.list()] == [name, "epoch_0005"]
    assert copied.has_best
