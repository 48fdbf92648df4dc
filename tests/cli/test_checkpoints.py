import pytest
import torch

from audiozen_core.checkpoint import CheckpointStore, load_weights
from audiozen_core.run_lock import RunLock


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Four checkpoints, the second of them the best."""
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


def test_the_list_tells_epoch_step_score_and_state(audiozen, store):
    damage(store)
    outcome = audiozen("checkpoints", "exp")
    assert outcome.code == 0, outcome.err
    lines = [line.split(maxsplit=5) for line in outcome.out.splitlines()]
    assert lines[0] == ["checkpoint", "epoch", "step", "score", "MB", "state"]
    assert lines[2] == ["epoch_0002", "2", "20", "1", "0.0", "whole, best"]
    assert lines[3][5].startswith("damaged: ")
    assert lines[4] == ["epoch_0004", "4", "40", "2", "0.0", "whole, latest"]


def test_verify_says_which_one_is_damaged_and_exits_with_2(audiozen, store):
    assert audiozen("checkpoints", "verify", "exp").code == 0
    damage(store)
    outcome = audiozen("checkpoints", "verify", "exp/checkpoints")
    assert outcome.code == 2
    assert "epoch_0003: model.safetensors" in outcome.out
    assert "3 whole, 1 damaged" in outcome.out


def test_prune_keeps_the_best_and_the_latest(audiozen, store):
    outcome = audiozen("checkpoints", "prune", "exp", "--keep", "2")
    assert outcome.code == 0
    assert [info.path.name for info in store.list()] == ["epoch_0002", "epoch_0004"]
    assert "2 deleted, 2 left" in outcome.out


def test_prune_leaves_a_run_that_is_on_alone(audiozen, store):
    with RunLock(store.folder.parent):
        outcome = audiozen("checkpoints", "prune", "exp", "--keep", "1")
    assert outcome.code == 2
    assert "is in use" in outcome.err
    assert len(store.list()) == 4


def test_average_writes_a_checkpoint_of_the_mean_weights(audiozen, store):
    outcome = audiozen("checkpoints", "average", "exp", "--last", "3")
    assert outcome.code == 0, outcome.err
    assert load_weights(store.folder.parent / "average_last_3")["weight"].tolist() == [3.0, 3.0]
    assert len(store.list()) == 4
    assert "exists already" in audiozen("checkpoints", "average", "exp", "--last", "3").err
    assert "4 whole checkpoints, not 5" in audiozen("checkpoints", "average", "exp", "--last", "5").err


def test_a_damaged_one_does_not_go_into_the_mean(audiozen, store):
    damage(store)
    assert audiozen("checkpoints", "average", "exp", "--last", "2", "-o", "mean").code == 0
    assert load_weights(store.folder.parent.parent / "mean")["weight"].tolist() == [3.0, 3.0]
    audiozen("checkpoints", "average", "exp", "--last", "3", "-o", "three")
    assert load_weights(store.folder.parent.parent / "three")["weight"].tolist() == [pytest.approx(7 / 3)] * 2


def test_the_average_of_a_run_can_be_tested(audiozen, project):
    assert audiozen("run", "tiny.toml").code == 0
    assert audiozen("checkpoints", "average", "tiny.toml", "--last", "2").code == 0
    outcome = audiozen("run", "tiny.toml", "-M", "test", "--ckpt-path", "exp/tiny/average_last_2")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("arguments", [["nowhere"], ["verify", "nowhere"], ["prune", "nowhere", "--keep", "1"]])
def test_a_folder_that_is_not_there_is_named(audiozen, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    outcome = audiozen("checkpoints", *arguments)
    assert outcome.code == 2
    assert "there is no folder nowhere/checkpoints" in outcome.err
