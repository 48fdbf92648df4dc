"""Gradients of kernels can be differentiated again, also where a tensor is not in one piece of memory."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from audiozen_plugins.kernels.band_conv import conv_over_three, double_bands
from audiozen_plugins.kernels.depthwise import depthwise_conv
from audiozen_plugins.kernels.energies import band_energies, scale_bands
from audiozen_plugins.kernels.gru import run_grus
from audiozen_plugins.kernels.norm_prelu import norm_prelu
from audiozen_plugins.model.gtcrn import GTCRN


class Layers(nn.Module):
    """Every module that a kernel takes, for four channels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.transposed = nn.ConvTranspose2d(4, 2, (1, 5), stride=(1, 2), padding=(0, 2))
        self.norm, self.prelu = nn.BatchNorm2d(4), nn.PReLU(4)
        self.gru = nn.GRU(6, 4)


KERNELS = {
    "conv_over_three": lambda layers, x, taps, bias: conv_over_three(x, taps.mT.unsqueeze(2), bias),
    "double_bands": lambda layers, x, taps, bias: double_bands(x, layers.transposed),
    "depthwise_conv": lambda layers, x, taps, bias: depthwise_conv(x, taps[:, :1].mT.unsqueeze(1), bias, 2, 4),
    "band_energies": lambda layers, x, taps, bias: band_energies(x),
    "scale_bands": lambda layers, x, taps, bias: scale_bands(x, x[..., 1:2]),
    "norm_prelu": lambda layers, x, taps, bias: norm_prelu(x, layers.norm, layers.prelu),
    # The state [1, sequences, units] comes from x too.
    "run_grus": lambda layers, x, taps, bias: run_grus([layers.gru], x, x[None, ..., 0, :4].flatten(1, 2), axis=2)[0],
}


def twice(compute, wanted: list[Tensor]) -> list[Tensor | None]:
    """The second derivatives of a sum of squares."""
    firsts = torch.autograd.grad(compute().square().sum(), wanted, create_graph=True, allow_unused=True)
    total = sum(first.square().sum() for first in firsts if first is not None)
    return list(torch.autograd.grad(total, wanted, allow_unused=True))


@pytest.mark.parametrize("name", KERNELS)
def test_second_derivatives_for_strided_tensors_are_those_of_the_plain_form(kernel_calls, name):
    def second(dtype: torch.dtype) -> list[Tensor | None]:
        generator = torch.Generator().manual_seed(0)
        whole, taps, bias = (torch.randn(shape, generator=generator) for shape in ((2, 8, 5, 6), (4, 3, 4), (4,)))
        leaves = [tensor.to(dtype).requires_grad_() for tensor in (whole, taps, bias)]
        x, layers = leaves[0].chunk(2, dim=1)[0], Layers().to(dtype)
        assert not x.is_contiguous()
        return twice(lambda: KERNELS[name](layers, x, *leaves[1:]), [*leaves, *layers.parameters()])

    fused = second(torch.float32)
    assert kernel_calls
    kernel_calls.clear()
    plain = second(torch.float64)
    assert not kernel_calls
    assert plain[0] is not None
    assert plain[0].abs().max() > 0
    for ours, expected in zip(fused, plain, strict=True):
        assert (ours is None) == (expected is None)
        if expected is not None:
            torch.testing.assert_close(
                ours.double(), expected, rtol=0, atol=2e-5 * max(1.0, float(expected.abs().max()))
            )


def test_the_second_derivative_of_a_network_is_that_of_the_plain_form(kernel_calls):
    torch.manual_seed(0)
    network = GTCRN()
    noisy = torch.randn(1, 257, 4, 2)

    def norm_of_gradient(network: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        x = x.requires_grad_()
        firsts = torch.autograd.grad(network(x).square().mean(), [x, *network.parameters()], create_graph=True)
        total = sum(first.square().sum() for first in firsts)
        return total.detach(), list(torch.autograd.grad(total, [x, *network.parameters()], allow_unused=True))

    exact = copy.deepcopy(network).double()
    total, fused = norm_of_gradient(network, noisy.clone())
    assert kernel_calls
    expected_total, plain = norm_of_gradient(exact, noisy.double())
    torch.testing.assert_close(total.double(), expected_total, rtol=1e-3, atol=0)
    for ours, expected in zip(fused, plain, strict=True):
        assert (ours is None) == (expected is None)
        if expected is not None:
            assert (ours - expected).norm() <= 1e-2 * expected.norm() + 1e-6
