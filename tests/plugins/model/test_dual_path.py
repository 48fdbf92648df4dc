"""The grouped GRU agrees with the GRUs that it joins."""

from __future__ import annotations

import pytest
import torch

from audiozen_plugins.model.dual_path import DualPathGRU, GroupedGRU


@pytest.mark.parametrize("bidirectional", [False, True])
def test_grouped_gru_gives_the_outputs_and_gradients_of_its_two_grus(bidirectional):
    torch.manual_seed(0)
    grouped = GroupedGRU(6, 8, bidirectional=bidirectional).double()
    x = torch.randn(7, 3, 6, dtype=torch.float64)
    expected = torch.cat([grouped.rnn1(x[..., :3])[0], grouped.rnn2(x[..., 3:])[0]], -1)
    output = grouped(x)
    torch.testing.assert_close(output, expected)
    weighing = torch.randn_like(expected)
    ours = torch.autograd.grad((output * weighing).sum(), list(grouped.parameters()))
    theirs = torch.autograd.grad((expected * weighing).sum(), list(grouped.parameters()))
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two)


def test_grouped_gru_keeps_the_groups_apart():
    torch.manual_seed(0)
    grouped = GroupedGRU(6, 8)
    x = torch.randn(7, 3, 6)
    other = x.clone()
    other[..., 3:] += 1
    assert torch.equal(grouped(x)[..., :4], grouped(other)[..., :4])
    assert not torch.equal(grouped(x)[..., 4:], grouped(other)[..., 4:])


def test_dual_path_mixes_all_frequencies_but_no_later_frame():
    torch.manual_seed(0)
    path = DualPathGRU(4, num_freqs=5)
    x = torch.randn(1, 4, 6, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(path(x)[0, :, 3, 0].square().sum(), x)
    assert (gradient.abs().sum((0, 1))[:4] > 0).all()
    assert (gradient[:, :, 4:] == 0).all()
