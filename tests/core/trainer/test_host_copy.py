"""Scalars are copied to the CPU. What a GPU adds to this is in tests/gpu."""

import torch

from audiozen_core.trainer.host_copy import HostCopy


def test_numbers_and_tensors_of_one_element_are_read_as_floats():
    copy = HostCopy({"loss": torch.tensor([0.5]), "count": 3, "half": torch.tensor(0.25, dtype=torch.bfloat16)})
    assert copy.read() == {"loss": 0.5, "count": 3.0, "half": 0.25}
