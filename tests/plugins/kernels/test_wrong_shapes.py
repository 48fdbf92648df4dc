"""Kernels check no bounds, so tensors of other shapes go to PyTorch: it computes them, or says what is wrong."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from audiozen_plugins.kernels.band_conv import conv_over_three, double_bands
from audiozen_plugins.kernels.depthwise import depthwise_conv
from audiozen_plugins.kernels.energies import band_energies, scale_bands
from audiozen_plugins.kernels.gru import run_grus

X = torch.randn(2, 4, 5, 6)


def doubled(inputs: int, **changed) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, 2, (1, 5), **{"stride": (1, 2), "padding": (0, 2)} | changed)


WRONG = {
    "band_conv with more channels": lambda: conv_over_three(X, torch.randn(4, 2, 1, 3), torch.randn(4)),
    "band_conv with fewer channels": lambda: conv_over_three(X, torch.randn(4, 6, 1, 3), torch.randn(4)),
    "band_conv with other groups": lambda: conv_over_three(X, torch.randn(4, 4, 1, 3), torch.randn(4), 2),
    "band_conv with few biases": lambda: conv_over_three(X, torch.randn(4, 4, 1, 3), torch.randn(2)),
    "band_conv without batch": lambda: conv_over_three(X[:, 0, 0], torch.randn(4, 4, 1, 3), torch.randn(4)),
    "double_bands with more channels": lambda: double_bands(X, doubled(2)),
    "depthwise with more channels": lambda: depthwise_conv(X, torch.randn(3, 1, 2, 3), torch.randn(3)),
    "depthwise with fewer channels": lambda: depthwise_conv(X, torch.randn(6, 1, 2, 3), torch.randn(6)),
    "depthwise with few biases": lambda: depthwise_conv(X, torch.randn(4, 1, 2, 3), torch.randn(2)),
    "depthwise with few frames": lambda: depthwise_conv(X, torch.randn(4, 1, 3, 3), torch.randn(4), 3),
    "scale_bands with other frames": lambda: scale_bands(X, torch.randn(2, 4, 3, 1)),
    "gru with more channels": lambda: run_grus([nn.GRU(3, 4)], X[0]),
    "gru with fewer channels": lambda: run_grus([nn.GRU(8, 4)], X[0]),
    "gru with channels for no group": lambda: run_grus([nn.GRU(3, 4)] * 2, X[0, :, :, :5]),
    "gru with few states": lambda: run_grus([nn.GRU(6, 4)], X[0], torch.randn(1, 2, 4)),
    "gru with large states": lambda: run_grus([nn.GRU(6, 4)], X[0], torch.randn(1, 5, 6)),
    "gru with two layers": lambda: run_grus([nn.GRU(6, 4, num_layers=2)], X[0]),
    "gru without biases": lambda: run_grus([nn.GRU(6, 4, bias=False)], X[0]),
    "gru with a projection": lambda: run_grus([nn.LSTM(6, 4, proj_size=2)], X[0]),
    "grus of two sizes": lambda: run_grus([nn.GRU(3, 4), nn.GRU(3, 8)], X[0]),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_shapes_are_an_error(kernel_calls, name):
    with pytest.raises((RuntimeError, ValueError)):
        WRONG[name]()
    assert not kernel_calls


OTHER = {
    "a gate that is broadcast": (lambda: scale_bands(X, torch.ones(4, 1, 6)), lambda: X),
    "a gate for all frames": (lambda: scale_bands(X, torch.ones(2, 4, 1, 1)), lambda: X),
    "a single frame": (lambda: band_energies(X[0, 0, 0]), lambda: X[0, 0, 0].square().mean()),
    "no frame": (lambda: band_energies(X[:, :, :0]), lambda: torch.zeros(2, 4, 0)),
    "no band": (lambda: band_energies(X[..., :0]), lambda: torch.full((2, 4, 5), torch.nan)),
}


@pytest.mark.parametrize("name", OTHER)
def test_other_shapes_are_computed_by_torch(kernel_calls, name):
    compute, expected = OTHER[name]
    torch.testing.assert_close(compute(), expected(), equal_nan=True)
    assert not kernel_calls


@pytest.mark.parametrize("changed", [{"stride": (1, 1)}, {"padding": (0, 0)}, {"output_padding": (0, 1)}])
def test_other_transposed_convolutions_are_called(kernel_calls, changed):
    conv = doubled(4, **changed)
    assert torch.equal(double_bands(X, conv), conv(X))
    assert not kernel_calls


def test_right_shapes_use_the_kernels(kernel_calls):
    conv_over_three(X, torch.randn(4, 4, 1, 3), torch.randn(4))
    double_bands(X, doubled(4))
    depthwise_conv(X, torch.randn(4, 1, 2, 3), torch.randn(4))
    scale_bands(X, torch.randn(2, 4, 5, 1))
    run_grus([nn.GRU(3, 4)] * 2, X[0], torch.randn(2, 5, 4))
    assert kernel_calls == ["_forward", "_forward", "_forward", "forward"]
    band_energies(X)
    assert kernel_calls[4:] == ["_energies"]
