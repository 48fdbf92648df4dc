import errno
import json
import os
import shutil

import pytest
import torch

from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.checkpoint.weights import load_weights
from audiozen_core.experiment import lock
from audiozen_core.experiment.lock import run_lock
from audiozen_core.storage import atomic


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Creates a store with four checkpoints. The second one is the best."""
    monkeypatch.chdir(tmp_path)
    store = CheckpointStore(tmp_path / "exp" / "checkpoints")
    for epoch in range(1, 5):
        state = {"model": {"weight": torch.full((2,), float(epoch))}, "optimizer": {"lr": 0.1}}
        store.save(state, epoch=epoch, step=10 * epoch, score=epoch / 2, is_best=epoch == 2)
    return store


def damage(store, name="epoch_0003"):
    path = store.folder / name / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_list_shows_epoch_step_score_and_state(audiozen, store):
    damage(store)
    outcome = audiozen("checkpoints", "exp")
    assert outcome.code == 0, outcome.err
    lines = [line.split(maxsplit=5) for line in outcome.out.splitlines()]
    assert lines[0] == ["checkpoint", "epoch", "step", "score", "MB", "state"]
    assert lines[2] == ["epoch_0002", "2", "20", "1", "0.0", "intact, best"]
    assert lines[3][5].startswith("damaged: ")
    assert lines[4] == ["epoch_0004", "4", "40", "2", "0.0", "intact, latest"]


def test_verify_names_the_damaged_checkpoint_and_exits_with_2(audiozen, store):
    assert audiozen("checkpoints", "verify", "exp").code == 0
    damage(store)
    outcome = audiozen("checkpoints", "verify", "exp/checkpoints")
    assert outcome.code == 2
    assert "epoch_0003: model.safetensors" in outcome.out
    assert "3 intact, 1 damaged" in outcome.out


def test_prune_keeps_the_best_and_the_latest(audiozen, store):
    outcome = audiozen("checkpoints", "prune", "exp", "--keep", "2")
    assert outcome.code == 0
    assert [info.path.name for info in store.list()] == ["epoch_0002", "epoch_0004"]
    assert "2 deleted, 2 left" in outcome.out


def test_prune_deletes_nothing_while_the_run_is_active(audiozen, store):
    with run_lock(store.folder.parent):
        outcome = audiozen("checkpoints", "prune", "exp", "--keep", "1")
    assert outcome.code == 2
    assert "is in use" in outcome.err
    assert len(store.list()) == 4


def test_prune_frees_space_on_a_full_disk(audiozen, store, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lock, "write_whole", fail)
    outcome = audiozen("checkpoints", "prune", "exp", "--keep", "2")
    assert outcome.code == 0, outcome.err
    assert len(store.list()) == 2
    monkeypatch.undo()
    with run_lock(store.folder.parent):
        assert json.loads((store.folder.parent / "run.lock.json").read_text())["pid"] == os.getpid()


def test_list_finds_checkpoints_of_a_run_named_checkpoints(audiozen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, epoch in (("exp/checkpoints/checkpoints", 7), ("plain/checkpoints", 8)):
        CheckpointStore(tmp_path / folder).save({"model": {"weight": torch.ones(2)}}, epoch=epoch, step=1)
    assert "epoch_0007" in audiozen("checkpoints", "exp/checkpoints").out
    assert "epoch_0008" in audiozen("checkpoints", "plain/checkpoints").out


def test_average_writes_a_checkpoint_of_the_mean_weights(audiozen, store):
    outcome = audiozen("checkpoints", "average", "exp", "--last", "3")
    assert outcome.code == 0, outcome.err
    assert load_weights(store.folder.parent / "average_last_3")["weight"].tolist() == [3.0, 3.0]
    assert len(store.list()) == 4
    assert "already exists" in audiozen("checkpoints", "average", "exp", "--last", "3").err
    assert (
        "4 intact checkpoints of different steps, not 5" in audiozen("checkpoints", "average", "exp", "--last", "5").err
    )


def test_average_skips_a_damaged_checkpoint(audiozen, store):
    damage(store)
    assert audiozen("checkpoints", "average", "exp", "--last", "2", "-o", "mean").code == 0
    assert load_weights(store.folder.parent.parent / "mean")["weight"].tolist() == [3.0, 3.0]
    audiozen("checkpoints", "average", "exp", "--last", "3", "-o", "three")
    assert load_weights(store.folder.parent.parent / "three")["weight"].tolist() == [pytest.approx(7 / 3)] * 2


def test_average_counts_a_duplicate_checkpoint_once(audiozen, store):
    shutil.copytree(store.folder / "epoch_0001", store.folder / "copy_of_epoch_0001")
    state = {"model": {"weight": torch.full((2,), 9.0)}}
    store.save(state, epoch=4, step=40, within_epoch=True)
    outcome = audiozen("checkpoints", "average", "exp", "--last", "2")
    assert outcome.code == 0, outcome.err
    assert load_weights(store.folder.parent / "average_last_2")["weight"].tolist() == [6.0, 6.0]
    assert "epoch_0003, epoch_0005_step_0000040" in outcome.out
    assert "4 intact checkpoints of different steps" in audiozen("checkpoints", "average", "exp", "--last", "5").err


def test_average_on_a_full_disk_is_an_error_and_leaves_no_files(audiozen, store, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "write", fail)
    outcome = audiozen("checkpoints", "average", "exp", "--last", "2")
    assert outcome.code == 2
    assert "average_last_2 could not be written" in outcome.err
    assert "free some disk space" in outcome.err
    assert [path.name for path in store.folder.parent.iterdir()] == ["checkpoints"]


def test_average_does_not_replace_a_broken_link(audiozen, store):
    (store.folder.parent / "mean").symlink_to("missing")
    outcome = audiozen("checkpoints", "average", "exp", "--last", "2", "-o", "exp/mean")
    assert "already exists" in outcome.err
    assert (store.folder.parent / "mean").is_symlink()


def test_averaged_checkpoint_can_be_tested(audiozen, project):
    assert audiozen("run", "tiny.toml").code == 0
    assert audiozen("checkpoints", "average", "tiny.toml", "--last", "2").code == 0
    outcome = audiozen("run", "tiny.toml", "-M", "test", "--ckpt-path", "exp/tiny/average_last_2")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("arguments", [["nowhere"], ["verify", "nowhere"], ["prune", "nowhere", "--keep", "1"]])
def test_error_names_a_missing_folder(audiozen, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    outcome = audiozen("checkpoints", *arguments)
    assert outcome.code == 2
    assert "nowhere/checkpoints does not exist" in outcome.err


@pytest.mark.parametrize("kept", ["folders for links", "no links", "only `best`", "moved"])
def test_copy_of_a_run_tests_its_best_checkpoint_and_the_log_says_which(audiozen, project, kept):
    # The optimiser spoils the network after the first epoch, so the best checkpoint is not the latest.
    spoil = ["--set", "optimizer.args.lr=10", "--set", "trainer.args.max_epochs=3"]
    assert audiozen("run", "tiny.toml", *spoil).code == 0
    original = CheckpointStore(project / "exp/tiny/checkpoints")
    best = next(info for info in original.list() if info.best)
    assert not best.latest
    if kept == "moved":
        shutil.move("exp/tiny", "elsewhere")
        arguments = ["tiny.toml", "--ckpt-path", "elsewhere/checkpoints/best"]
    else:
        shutil.copytree("exp/tiny", "exp/copy", symlinks=False)
        shutil.copy("tiny.toml", "copy.toml")
        arguments = ["copy.toml"]
    for path in (project / "exp/copy/checkpoints").glob("*"):
        if (kept == "no links" and path.name in ("best", "latest")) or (kept == "only `best`" and path.name != "best"):
            shutil.rmtree(path)
    outcome = audiozen("run", *arguments, "-M", "test", *spoil)
    assert outcome.code == 0, outcome.err
    (line,) = [line for line in outcome.err.splitlines() if "weights are loaded" in line]
    assert f"epoch={best.epoch} step={best.step} score={best.score}" in line
    assert ("best" if kept == "only `best`" else best.name) in line
    if kept != "moved":
        lines = audiozen("checkpoints", "copy.toml").out.splitlines()
        (row,) = [line for line in lines if "best" in line.partition(" ")[2]]
        assert row.split()[:3] == ["best" if kept == "only `best`" else best.name, str(best.epoch), str(best.step)]


def test_missing_best_checkpoint_is_not_replaced_by_the_latest(audiozen, project):
    assert audiozen("run", "tiny.toml").code == 0
    store = CheckpointStore(project / "exp/tiny/checkpoints")
    shutil.rmtree(store.best)
    outcome = audiozen("run", "tiny.toml", "-M", "test")
    assert outcome.code == 2
    assert "the best checkpoint is epoch_" in outcome.err
    assert "--ckpt-path latest" in outcome.err
