"""States are saved and restored: errors name the owner, and generators are restored from any device."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from audiozen_core.errors import CheckpointError
from audiozen_core.hooks.progress import Progress
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.state import RandomState, StateRegistry


class OnGpu:
    """Imitates a tensor on a GPU, so the test runs without one: NumPy can read it only after `cpu()`."""

    def __init__(self, tensor):
        self.tensor = tensor

    def cpu(self):
        return self.tensor

    def numpy(self):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


def test_generators_are_restored_from_a_checkpoint_loaded_onto_a_gpu():
    state = RandomState().state_dict()
    drawn = np.random.rand(), torch.rand(1).item()
    state["numpy"]["keys"] = OnGpu(state["numpy"]["keys"])
    state["torch"] = OnGpu(state["torch"])
    RandomState().load_state_dict(state)
    assert (np.random.rand(), torch.rand(1).item()) == drawn


def test_error_in_a_state_names_its_owner():
    class Broken:
        def state_dict(self):
            raise ZeroDivisionError("division by zero")

        def load_state_dict(self, state_dict): ...

    registry = StateRegistry()
    registry.register("hook_ema", Broken())
    with pytest.raises(CheckpointError, match="`hook_ema` failed to return its state: ZeroDivisionError"):
        registry.state_dict()


def test_state_of_a_module_of_any_kind_is_saved():
    norm = torch.nn.BatchNorm1d(2, affine=False)
    registry = StateRegistry()
    registry.register_components(Components(models={}, others={"augmentation": {"": norm, "b": object()}}), None)
    norm.running_mean += 1
    assert registry.state_dict()["augmentation"]["running_mean"].tolist() == [1, 1]
    assert "augmentation_b" not in registry.state_dict()


def test_name_that_checkpoints_use_themselves_is_refused():
    with pytest.raises(ValueError, match="the state name `extra` is reserved"):
        StateRegistry().register("extra", RandomState())


@pytest.mark.parametrize("error", [AssertionError, AttributeError, IndexError, KeyError, ZeroDivisionError])
def test_entry_that_fails_to_load_is_named_whatever_it_raises(error):
    class Fails:
        def state_dict(self):
            return {}

        def load_state_dict(self, state_dict):
            raise error("no size")

    registry = StateRegistry()
    registry.register("average", Fails())
    with pytest.raises(CheckpointError, match=f"the checkpoint's `average` does not fit: {error.__name__}: '?no size"):
        registry.load_state_dict({"average": {}})


class Counter:
    def state_dict(self):
        return {}

    def load_state_dict(self, state_dict): ...


def test_two_plugins_that_register_the_same_name_are_an_error_with_both_classes():
    registry = StateRegistry()
    registry.register("ema", torch.nn.Linear(1, 1))
    with pytest.raises(
        ValueError, match=r"`ema` is registered twice: for `torch.nn.*Linear` and for `.*test_state.Counter`"
    ):
        registry.register("ema", Counter())


@pytest.mark.parametrize("name", ["hook_counts", "loss_function_teacher"])
def test_registered_state_is_needed_whatever_its_name_begins_with(name):
    """Only the states of hooks and losses themselves keep their initial values, with a warning."""
    registry = StateRegistry()
    registry.register(name, Counter())
    with pytest.raises(CheckpointError, match=f"has no state for `{name}`, which the experiment has registered"):
        registry.load_for_evaluation({}, "best", saved=["model"])


def test_state_of_another_version_is_an_error_that_says_what_to_do():
    state = {name: value for name, value in asdict(Progress()).items() if name != "ranks"}
    registry = StateRegistry()
    registry.register("progress", Progress())
    with pytest.raises(CheckpointError, match="the checkpoint's `progress` does not fit: KeyError: 'ranks'") as error:
        registry.load({"progress": state}, ["progress"])
    assert "use the versions of AudioZEN and of the plugins that the checkpoint was saved with" in error.value.remedy
