"""A run is loaded from its folder."""

import pytest
import torch

from audiozen_core.errors import CheckpointError, RunError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.experiment.load_run import load_run
from audiozen_core.testing.tiny import TinyExperiment


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    tiny = TinyExperiment(tmp_path_factory.mktemp("tiny")).set("trainer", max_epochs=2)
    return Experiment.load(tiny.write()).run()


@pytest.mark.parametrize("checkpoint", ["best", "latest", "epoch_0001"])
def test_run_is_loaded_with_the_weights_of_a_checkpoint_in_evaluation_mode(run, checkpoint):
    before = sorted(run.folder.rglob("*"))
    loaded = load_run(run.folder, checkpoint)
    expected = {"best": run.best, "latest": run.latest}.get(checkpoint, run.folder / "checkpoints/epoch_0001")
    assert loaded.checkpoint.resolve() == expected.resolve()
    saved = loaded.experiment.store.load(expected).state["model"]
    weights = loaded.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in saved.items())
    assert not any(module.training for module in loaded.model.modules())
    assert sorted(run.folder.rglob("*")) == before


def test_two_checkpoints_have_different_weights(run):
    first, second = (load_run(run.folder, f"epoch_000{epoch}").model.state_dict() for epoch in (1, 2))
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_run_that_was_moved_is_loaded(run, tmp_path):
    moved = run.folder.rename(tmp_path / "moved run")
    try:
        assert load_run(str(moved)).checkpoint.is_relative_to(moved)
    finally:
        moved.rename(run.folder)


def test_folder_without_a_run_and_missing_checkpoints_are_clear_errors(run, tmp_path):
    with pytest.raises(RunError, match="is not the folder of a run"):
        load_run(tmp_path)
    with pytest.raises(CheckpointError, match="epoch_0009"):
        load_run(run.folder, "epoch_0009")
