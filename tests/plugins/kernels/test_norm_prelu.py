"""The fused batch normalisation with PReLU, and the sums along bands, give the values and gradients of PyTorch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.modules.module import register_module_forward_hook, register_module_full_backward_hook

from audiozen_plugins.kernels.energies import band_energies, scale_bands
from audiozen_plugins.kernels.norm_prelu import norm_prelu


class Layers(nn.Module):
    def __init__(self, slopes: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.prelu = nn.BatchNorm2d(6), nn.PReLU(slopes, init=-0.3)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        return norm_prelu(x, self.norm, self.prelu)


@pytest.mark.parametrize("slopes", [1, 6])
@pytest.mark.parametrize("training", [False, True])
def test_kernel_and_plain_form_agree(compare_forms, training, slopes):
    layers = Layers(slopes).train(training)
    names = [name for name, _ in layers.named_parameters()]
    x = 3 * torch.randn(4, 6, 5, 7) + 2

    def compute(x, *weights):
        own = copy.deepcopy(layers).to(x.dtype)
        return functional_call(own, dict(zip(names, weights, strict=True)), (x,))

    compare_forms(compute, [x, *layers.parameters()])


def test_running_statistics_are_those_of_torch(kernel_calls):
    fused, plain, x = Layers(), Layers(), torch.randn(4, 6, 5, 7) + 2
    for _ in range(2):
        fused(x)
        plain.norm(x)
    assert kernel_calls
    for name, buffer in plain.norm.named_buffers():
        torch.testing.assert_close(fused.norm.get_buffer(name), buffer, rtol=1e-5, atol=1e-6)
    assert fused.norm.num_batches_tracked == 2


def test_evaluation_changes_no_statistics(kernel_calls):
    layers = Layers().eval()
    before = copy.deepcopy(dict(layers.named_buffers()))
    layers(torch.randn(4, 6, 5, 7))
    assert kernel_calls == ["_forward"]
    assert all(torch.equal(buffer, before[name]) for name, buffer in layers.named_buffers())


@pytest.mark.parametrize("other", ["watched", "no momentum", "another norm", "no statistics"])
def test_the_modules_are_called_where_the_kernel_does_not_fit(kernel_calls, other):
    layers, seen = Layers(), []
    if other == "watched":
        layers.prelu.register_forward_hook(lambda *_: seen.append("prelu"))
    if other == "no momentum":
        layers.norm.momentum = None
    if other == "another norm":
        layers.norm = nn.InstanceNorm2d(6)
    if other == "no statistics":
        layers.norm = nn.BatchNorm2d(6, track_running_stats=False)
    plain, x = copy.deepcopy(layers), torch.randn(4, 6, 5, 7)
    assert torch.equal(layers(x), plain.prelu(plain.norm(x)))
    assert not kernel_calls
    assert bool(seen) == (other == "watched")


@pytest.mark.parametrize(
    "register",
    [
        nn.Module.register_forward_pre_hook,
        nn.Module.register_full_backward_hook,
        nn.Module.register_full_backward_pre_hook,
        lambda module, hook: register_module_forward_hook(hook),
        lambda module, hook: register_module_full_backward_hook(hook),
    ],
)
def test_every_hook_of_a_module_sees_its_call(kernel_calls, register):
    layers, seen = Layers(), []
    x = torch.randn(4, 6, 5, 7, requires_grad=True)
    handle = register(layers.prelu, lambda module, *_: seen.append(module))
    layers(x).sum().backward()
    assert layers.prelu in seen
    assert not kernel_calls
    handle.remove()
    layers(x)
    assert kernel_calls


def test_energies_and_scaled_bands(compare_forms):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 7)
    compare_forms(band_energies, [x])
    compare_forms(scale_bands, [x, torch.randn(2, 3, 5, 1)])
    # A gate that is not in one piece.
    compare_forms(lambda x, gate: scale_bands(x, gate.transpose(1, 2).unsqueeze(-1)), [x, torch.randn(2, 5, 3)])
