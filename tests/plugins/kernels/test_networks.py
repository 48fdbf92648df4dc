"""Networks give the same with kernels and without."""

from __future__ import annotations

import copy

import pytest
import torch

from audiozen_plugins.kernels.plain_forms import without_kernels
from audiozen_plugins.model.gtcrn import GTCRN
from audiozen_plugins.model.ul_unas import ULUNAS

INPUTS = {GTCRN: torch.randn(2, 257, 12, 2, generator=torch.Generator().manual_seed(0)), ULUNAS: None}
INPUTS[ULUNAS] = INPUTS[GTCRN][..., 0].abs()


@pytest.mark.parametrize("make", [GTCRN, ULUNAS])
def test_a_training_step_is_the_same_with_kernels_and_without(kernel_calls, make):
    torch.manual_seed(0)
    fused = make()
    plain, exact = copy.deepcopy(fused), copy.deepcopy(fused).double()
    output = fused(INPUTS[make])
    output.square().mean().backward()
    assert {"forward", "backward", "_forward", "_backward"} <= set(kernel_calls)
    kernel_calls.clear()
    precise = exact(INPUTS[make].double())
    precise.square().mean().backward()
    with without_kernels():
        expected = plain(INPUTS[make])
        expected.square().mean().backward()
    assert not kernel_calls
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)
    for (name, ours), theirs, true in zip(
        fused.named_parameters(), plain.parameters(), exact.parameters(), strict=True
    ):
        # The kernels are as exact as PyTorch, up to a factor.
        error, usual = ((each.grad - true.grad).norm() for each in (ours, theirs))
        assert error <= 4 * usual + 1e-4 * true.grad.norm() + 1e-7, name
    for (name, ours), theirs in zip(fused.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6, msg=name)


def test_the_kernels_see_other_weights(kernel_calls):
    torch.manual_seed(0)
    network = GTCRN().eval()
    before = network(INPUTS[GTCRN])
    with torch.no_grad():
        network.dpgrnn1.inter_rnn.rnn1.weight_hh_l0.add_(0.1)
    assert (network(INPUTS[GTCRN]) - before).abs().max() > 1e-5
    assert kernel_calls


@pytest.mark.parametrize("make", [GTCRN, ULUNAS])
def test_the_kernels_step_aside_for_torch_func(kernel_calls, make):
    torch.manual_seed(0)
    network = make().eval()
    loss = network(INPUTS[make]).square().mean()
    assert kernel_calls
    expected = torch.autograd.grad(loss, list(network.parameters()))
    kernel_calls.clear()
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    found = torch.func.grad(lambda given: torch.func.functional_call(network, given, INPUTS[make]).square().mean())(
        weights
    )
    assert not kernel_calls
    for ours, theirs in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
