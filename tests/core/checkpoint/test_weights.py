"""Weights are loaded from a checkpoint or a single file, or averaged over several checkpoints."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

from audiozen_core.checkpoint.errors import DamagedCheckpointError, NoCheckpointError
from audiozen_core.checkpoint.format import checkpoint
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.checkpoint.weights import average, load_weights, write_average
from audiozen_core.errors import CheckpointError
from tests.core.checkpoint.exactness import difference


def tied_net() -> torch.nn.Module:
    torch.manual_seed(0)
    net = torch.nn.ModuleDict({"encoder": torch.nn.Linear(3, 3), "decoder": torch.nn.Linear(3, 3)})
    net["decoder"].weight = net["encoder"].weight
    return net


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints")


def test_weights_are_loaded_from_a_checkpoint_folder_or_a_link(store):
    net = tied_net()
    path = store.save({"model": net.state_dict(), "rng": {}}, epoch=1, step=1, is_best=True)
    for place in (path, store.folder / "best", store.folder / "latest"):
        assert difference(load_weights(place), net.state_dict()) is None


def test_one_of_several_models_is_chosen_by_its_owner(store):
    path = store.save({"model_g": {"a": torch.ones(1)}, "model_d": {"b": torch.zeros(1)}}, epoch=1, step=1)
    assert load_weights(path, owner="model_d").keys() == {"b"}
    with pytest.raises(CheckpointError, match="has no state of `model`"):
        load_weights(path)


def test_the_tensor_file_alone_restores_a_model_with_tied_weights(store):
    net = tied_net()
    path = store.save({"model": net.state_dict()}, epoch=1, step=1)
    net.load_state_dict(load_weights(path / "model.safetensors"))
    safetensors.torch.load_model(net, path / "model.safetensors")


def test_a_file_written_by_safetensors_is_read(tmp_path):
    net = tied_net()
    safetensors.torch.save_model(net, tmp_path / "net.safetensors")
    weights = load_weights(tmp_path / "net.safetensors")
    assert set(weights) == set(net.state_dict())
    net.load_state_dict(weights)


def test_the_error_for_a_missing_path_lists_what_exists(store, tmp_path):
    store.save({"model": {}}, epoch=1, step=1)
    with pytest.raises(NoCheckpointError) as caught:
        load_weights(store.folder / "best" / "model.safetensors")
    assert caught.value.notes == (f"{store.folder} contains: epoch_0001, latest",)
    with pytest.raises(NoCheckpointError, match="is not a checkpoint") as caught:
        load_weights(store.folder)
    assert "epoch_0001" in caught.value.notes[0]


def test_the_error_for_the_folder_of_a_run_names_its_checkpoints(store, tmp_path):
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    for read in (load_weights, store.load):
        with pytest.raises(NoCheckpointError, match="run is not a checkpoint") as caught:
            read(tmp_path / "run")
        assert f"such as {tmp_path}/run/checkpoints/best" in str(caught.value.diagnostics[0])
        with pytest.raises(NoCheckpointError) as caught:
            read(tmp_path)
        assert "folder of a run" not in str(caught.value.diagnostics[0])


def test_a_pickle_is_not_read(tmp_path):
    (tmp_path / "net.pth").write_bytes(b"\x80\x04.")
    with pytest.raises(CheckpointError, match="which can contain code, so only `audiozen convert` reads it"):
        load_weights(tmp_path / "net.pth")


def test_error_names_a_broken_file_and_the_reason(tmp_path):
    (tmp_path / "net.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(
        DamagedCheckpointError, match=r"net\.safetensors can't be used: its header is longer than the file"
    ):
        load_weights(tmp_path / "net.safetensors")


def test_weights_are_averaged_in_double_precision_and_integers_are_the_last(store):
    values = (1.0, 1.0 + 2**-10, 1.0 + 2**-8)
    paths = [
        store.save(
            {"model": {"w": torch.tensor([value]).half(), "z": torch.tensor([value * 1j]), "n": torch.tensor(epoch)}},
            epoch=epoch,
            step=epoch,
        )
        for epoch, value in enumerate(values)
    ]
    mean = average(paths)
    expected = torch.tensor([sum(values) / 3], dtype=torch.float64)
    assert difference(mean["w"], expected.half()) is None
    assert difference(mean["z"], (expected * 1j).to(torch.complex64)) is None
    assert mean["n"].item() == 2


def test_average_of_one_checkpoint_equals_the_checkpoint_and_loads_into_the_model(store):
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    path = store.save({"model": net.state_dict()}, epoch=1, step=1)
    assert difference(dict(average([path])), dict(net.state_dict())) is None
    net.load_state_dict(average([path, path]))


def test_failed_write_of_an_average_leaves_no_files(store, tmp_path, monkeypatch):
    path = store.save({"model": {"w": torch.ones(2)}}, epoch=1, step=1)
    (tmp_path / "means").mkdir()

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "rename", fail)
        with pytest.raises(OSError, match="No space left"):
            write_average([path], tmp_path / "means/mean")
    assert list((tmp_path / "means").iterdir()) == []
    write_average([path], tmp_path / "means/mean")
    assert load_weights(tmp_path / "means/mean")["w"].tolist() == [1.0, 1.0]


def test_averaging_different_models_or_no_checkpoint_is_an_error(store):
    first = store.save({"model": {"w": torch.ones(2)}}, epoch=1, step=1)
    second = store.save({"model": {"w": torch.ones(3)}}, epoch=2, step=1)
    with pytest.raises(CheckpointError, match="the names, shapes or kinds of numbers of their weights differ"):
        average([first, second])
    with pytest.raises(CheckpointError, match="no weights to average"):
        average([])


def test_averaging_floats_and_integers_of_one_name_is_an_error(store):
    """The average would have only the floats in it, divided by the number of all files."""
    paths = [
        store.save({"model": {"weight": torch.ones(2, dtype=dtype)}, "rng": {}}, epoch=epoch, step=epoch)
        for epoch, dtype in enumerate((torch.int64, torch.float32), start=1)
    ]
    with pytest.raises(CheckpointError, match="kinds of numbers of their weights differ"):
        average(paths)
