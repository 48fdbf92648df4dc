"""Scalars are copied to the CPU. What a GPU adds to this is in tests/gpu."""

import torch

from audiozen_core.trainer.host_copy import HostCopy


def test_numbers_and_tensors_of_one_element_are_read_as_floats():
    copy = HostCopy({"loss": torch.tensor([0.5]), "count": 3, "half": torch.tensor(0.25, dtype=torch.bfloat16)})
    assert copy.read() == {"loss": 0.5, "count": 3.0, "half": 0.25}


def test_a_copy_has_the_value_of_the_time_when_it_was_made():
    value = torch.tensor(1.0)
    copy = HostCopy({"mean": value})
    value.fill_(7.0)
    assert copy.read() == {"mean": 1.0}
