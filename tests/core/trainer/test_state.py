"""The state of the random generators, wherever a checkpoint was loaded to."""

import numpy as np
import torch

from audiozen_core.trainer.state import RandomState


class OnGpu:
    """A tensor of a checkpoint that was loaded onto a GPU, as far as a machine without one can show it."""

    def __init__(self, tensor):
        self.tensor = tensor

    def cpu(self):
        return self.tensor

    def numpy(self):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


def test_the_generators_are_restored_from_a_checkpoint_that_was_loaded_onto_a_gpu():
    state = RandomState().state_dict()
    drawn = np.random.rand(), torch.rand(1).item()
    state["numpy"]["keys"] = OnGpu(state["numpy"]["keys"])
    state["torch"] = OnGpu(state["torch"])
    RandomState().load_state_dict(state)
    assert (np.random.rand(), torch.rand(1).item()) == drawn
