"""The fused convolutions give the values and the gradients of `torch.nn.functional.conv2d`."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call

from audiozen_plugins.kernels.band_conv import conv_over_three, double_bands
from audiozen_plugins.kernels.depthwise import depthwise_conv


@pytest.mark.parametrize(
    ("kernel", "dilation", "missing"), [((3, 3), 2, 4), ((3, 3), 5, 0), ((2, 3), 1, 1), ((1, 5), 1, 0)]
)
def test_depthwise_convolution(compare_forms, kernel, dilation, missing):
    torch.manual_seed(0)
    tensors = [torch.randn(2, 3, 12, 9), torch.randn(3, 1, *kernel), torch.randn(3)]
    compare_forms(lambda *args: depthwise_conv(*args, dilation, missing), tensors)


@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(4, 6, 1), (8, 4, 2)])
def test_convolution_over_three_bands(compare_forms, inputs, outputs, groups):
    torch.manual_seed(0)
    tensors = [torch.randn(2, inputs, 5, 7), torch.randn(outputs, inputs // groups, 1, 3), torch.randn(outputs)]
    compare_forms(lambda *args: conv_over_three(*args, groups), tensors)


@pytest.mark.parametrize(("outputs", "groups"), [(2, 1), (8, 2)])
def test_doubling_the_bands_is_a_transposed_convolution(compare_forms, kernel_calls, outputs, groups):
    torch.manual_seed(0)
    conv = nn.ConvTranspose2d(4, outputs, (1, 5), stride=(1, 2), padding=(0, 2), groups=groups)
    runner = nn.Module()
    runner.conv = conv
    runner.forward = lambda x: double_bands(x, runner.conv)
    names = [name for name, _ in runner.named_parameters()]
    x = torch.randn(2, 4, 3, 6)
    compare_forms(
        lambda x, *weights: functional_call(runner, dict(zip(names, weights, strict=True)), (x,)),
        [x, *conv.parameters()],
    )
    torch.testing.assert_close(double_bands(x, conv), conv(x), rtol=0, atol=2e-6)
    assert "_forward" in kernel_calls


def test_a_transposed_convolution_that_somebody_watches_is_called(kernel_calls):
    conv, x, seen = nn.ConvTranspose2d(4, 2, (1, 5), stride=(1, 2), padding=(0, 2)), torch.randn(2, 4, 3, 6), []
    conv.register_forward_hook(lambda conv, inputs, output: seen.append(output))
    assert torch.equal(double_bands(x, conv), *seen)
    assert not kernel_calls


def test_odd_numbers_of_channels_use_the_plain_form(kernel_calls):
    x, weight, bias = torch.randn(1, 4, 2, 5), torch.randn(3, 4, 1, 3), torch.zeros(3)
    expected = torch.nn.functional.conv2d(x, weight, bias, padding=(0, 1))
    torch.testing.assert_close(conv_over_three(x, weight, bias), expected)
    assert not kernel_calls
