"""A run is loaded from its folder."""

import random
import shutil

import numpy as np
import pytest
import torch

from audiozen_core.errors import BuildError, CheckpointError, RunError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.experiment.load_run import load_run
from audiozen_core.testing.tiny import TinyExperiment
from audiozen_core.trainer.state import RandomState


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """An experiment with a trainer of its own."""
    tiny = TinyExperiment(tmp_path_factory.mktemp("tiny"))
    (tiny.folder / "own.py").write_text(
        "from audiozen_plugins.trainer.enhancement import EnhancementTrainer\nclass Own(EnhancementTrainer): pass\n"
    )
    return tiny.set("trainer", "own.Own", max_epochs=2, metrics=["si_sdr"], log_interval=7)


@pytest.fixture(scope="module")
def run(tiny):
    return Experiment.load(tiny.write()).run()


def weights_of(loaded):
    return loaded.model.state_dict()


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("checkpoint", ["best", "latest", "epoch_0001"])
def test_run_is_loaded_with_the_weights_of_a_checkpoint_in_evaluation_mode(run, checkpoint):
    before = sorted(run.folder.rglob("*"))
    loaded = load_run(run.folder, checkpoint)
    expected = {"best": run.best, "latest": run.latest}.get(checkpoint, run.folder / "checkpoints/epoch_0001")
    assert loaded.checkpoint.resolve() == expected.resolve()
    saved = loaded.experiment.store.load(expected).state["model"]
    assert all(torch.equal(weights_of(loaded)[name], value) for name, value in saved.items())
    assert not any(module.training for module in loaded.model.modules())
    assert sorted(run.folder.rglob("*")) == before


def test_two_checkpoints_have_different_weights(run):
    assert not same(*(weights_of(load_run(run.folder, f"epoch_000{epoch}")) for epoch in (1, 2)))


def test_run_that_was_moved_has_the_same_weights(run, tmp_path):
    expected = weights_of(load_run(run.folder))
    moved = run.folder.rename(tmp_path / "moved run")
    try:
        loaded = load_run(str(moved))
        assert loaded.checkpoint.is_relative_to(moved)
        assert same(weights_of(loaded), expected)
        assert type(loaded.trainer).__name__ == "Own", "its own module is found from where the experiment is"
    finally:
        moved.rename(run.folder)


@pytest.fixture
def tested(run, tmp_path):
    """A copy of the run, with a newer record: that of a test with other settings."""
    copy = shutil.copytree(run.folder, tmp_path / "tiny", symlinks=True)
    (record,) = copy.glob("config__*.toml")
    text = record.read_text().replace("# modes: train\n", "# modes: test\n").replace("log_interval = 7", "patience = 9")
    assert "# modes: test\n" in text
    assert "patience = 9" in text
    (copy / "config__2999_01_01--00_00_00.toml").write_text(text)
    return copy


def test_the_configuration_is_that_of_the_checkpoint_and_not_of_a_later_command(tested):
    for record in tested.glob("config__2???_*.toml"):
        record.write_text(record.read_text().replace("max_epochs = 2", "max_epochs = 5"))
    trainer = load_run(tested).trainer
    assert (trainer.log_interval, trainer.patience, trainer.max_epochs) == (7, None, 2)


def test_the_configuration_for_a_file_of_weights_is_that_of_the_last_training(tested):
    for record in tested.glob("config__2???_*.toml"):
        record.write_text(record.read_text().replace("max_epochs = 2", "max_epochs = 5"))
    loaded = load_run(tested, str(tested / "checkpoints/epoch_0001/model.safetensors"))
    trainer = loaded.trainer
    assert (trainer.log_interval, trainer.patience, trainer.max_epochs) == (7, None, 5)
    assert same(weights_of(loaded), weights_of(load_run(tested, "epoch_0001")))


def test_file_of_weights_in_a_run_without_any_configuration_is_a_clear_error(tested):
    for record in tested.glob("config__*.toml"):
        record.unlink()
    with pytest.raises(RunError, match="has no configuration"):
        load_run(tested, str(tested / "checkpoints/epoch_0001/model.safetensors"))


def test_bare_name_is_a_checkpoint_of_the_run_even_if_the_working_directory_has_one_of_that_name(
    run, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for other in ("epoch_0001", "epoch_0009"):
        shutil.copytree(run.folder / "checkpoints/epoch_0002", tmp_path / other)
    expected = run.folder / "checkpoints/epoch_0001"
    experiment = load_run(run.folder).experiment
    for found in (load_run(run.folder, "epoch_0001").checkpoint, experiment.load_trainer("epoch_0001")[1]):
        assert found.resolve() == expected.resolve()
    assert load_run(run.folder, "./epoch_0001").checkpoint.resolve() == (tmp_path / "epoch_0001").resolve()
    with pytest.raises(CheckpointError, match="epoch_0009"):
        load_run(run.folder, "epoch_0009")


def test_loading_leaves_the_random_generators_of_the_caller_as_they_are(run):
    draw = lambda: (random.random(), np.random.random(), torch.rand(1).item())  # noqa: E731
    state = RandomState()
    before = state.state_dict()
    expected = draw()
    state.load_state_dict(before)
    load_run(run.folder)
    assert draw() == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="the run's device exists here")
def test_run_of_another_device_is_loaded_with_an_override(tested):
    weights = str(tested / "checkpoints/epoch_0001/model.safetensors")
    for record in tested.glob("config__*.toml"):
        record.write_text(record.read_text().replace('device = "cpu"', 'device = "cuda"'))
    with pytest.raises(BuildError, match="can't be used here"):
        load_run(tested, weights)
    for overrides in ({"meta.device": "cpu"}, ["meta.device=cpu"]):
        assert load_run(tested, weights, overrides=overrides).trainer.device.type == "cpu"


def test_loaded_experiment_has_no_mode_to_run(run):
    with pytest.raises(RunError, match="has no mode to run"):
        load_run(run.folder).experiment.run()


def test_folder_without_a_run_and_missing_checkpoints_are_clear_errors(run, tmp_path):
    with pytest.raises(RunError, match="is not a run folder"):
        load_run(tmp_path)
    with pytest.raises(CheckpointError, match="epoch_0009"):
        load_run(run.folder, "epoch_0009")
