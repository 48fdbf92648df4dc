"""The gated spiking layer agrees with a plain loop over the frames."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from audiozen_plugins.model.gated_spiking import GatedSpikingLayer


def plain_spikes(layer: GatedSpikingLayer, x: Tensor) -> Tensor:
    """Computes the spikes of x [frames, batch, inputs] frame by frame, with the modules of the layer."""
    cell = layer.cell
    twice = 2 if cell.shared else 1
    potential = spike = torch.zeros(x.shape[1], cell.weight_hh.shape[1])
    spikes = []
    for now in x:
        inputs = now @ cell.weight_ih.repeat(twice, 1).t() + spike @ cell.weight_hh.repeat(twice, 1).t() + cell.bias_ih
        gate, new = inputs.chunk(2, 1)
        potential = gate.sigmoid() * potential + (1 - gate.sigmoid()) * new
        if cell.batchnorm is not None:
            potential = cell.batchnorm(potential)
        spike = (potential >= 0).float()
        spikes.append(spike)
    return torch.stack(spikes)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("options", [{}, {"shared_weights": False}, {"bn": False}])
def test_spikes_and_running_statistics_are_those_of_a_plain_loop(options, train):
    torch.manual_seed(0)
    layer = GatedSpikingLayer(5, 8, **options).train(train)
    x = torch.randn(20, 4, 5)
    other = copy.deepcopy(layer)
    spikes = layer(x)
    assert 0.1 < spikes.mean() < 0.9
    assert torch.equal(spikes, plain_spikes(other, x))
    for (name, ours), theirs in zip(layer.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)


def test_gradient_of_a_spike_is_a_triangle():
    layer = GatedSpikingLayer(1, 1, bn=False)
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    nn.init.ones_(layer.cell.weight_ih)
    # The gate is the sigmoid of the same sum, so a potential is (1 - sigmoid(x)) * x.
    for value in (-0.5, 0.0, 0.5, 9.0):
        x = torch.full((1, 1, 1), value, requires_grad=True)
        layer(x).sum().backward()
        gate = torch.sigmoid(torch.tensor(value))
        potential = (1 - gate) * value
        slope = (1 - gate) - gate * (1 - gate) * value
        torch.testing.assert_close(x.grad.item(), ((1 - potential.abs()).clamp_min(0) * slope).item())
