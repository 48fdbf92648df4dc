"""Gated spiking layers. A gate decides how fast a neuron forgets."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiozen_plugins.kernels.gated_spiking import gated_spikes, has_kernel
from audiozen_plugins.kernels.spiking_trace import MOMENTUM, SpikingTrace
from audiozen_plugins.model.past import keep, recall


class _Spike(torch.autograd.Function):
    """Returns a spike (1) where the potential is at least 0, and 0 elsewhere.

    The surrogate gradient is a triangle: 1 at the potential 0, and 0 below -1 and above 1.
    """

    @staticmethod
    def forward(ctx: Any, potential: Tensor) -> Tensor:
        ctx.save_for_backward(potential)
        return potential.ge(0).to(potential.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (potential,) = ctx.saved_tensors
        slope: Tensor = (1 - potential.abs()).clamp_min(0)
        return grads[0] * slope


class GatedSpikingLayer(nn.Module):
    """A recurrent layer of spiking neurons with a forget gate.

    This is the gated spiking unit of Hao et al., "Towards Ultra-Low-Power Neuromorphic Speech Enhancement with
    Spiking-FullSubNet", 2024. The new potential of a neuron is a mean of its last potential and its new input, and the
    gate is the weight of this mean. If the potential is at least 0, the neuron sends a spike. The layer always computes
    in float32 or float64, even under autocast, because half precision would move potentials across the threshold.

    Args:
        input_size: the number of inputs.
        hidden_size: the number of neurons.
        shared_weights: whether the gate and the potential of a neuron share their weights. Both have their own bias.
        bn: whether to normalise the potentials of each frame over the batch. In training mode, this needs a batch of at
            least two sequences.
    """

    def __init__(self, input_size: int, hidden_size: int, *, shared_weights: bool = True, bn: bool = True) -> None:
        super().__init__()
        self.cell = _Weights(input_size, hidden_size, shared_weights=shared_weights, bn=bn)

    def forward(self, x: Tensor) -> Tensor:
        """Turns inputs [frames, batch, input_size] into spikes, 0 or 1, [frames, batch, hidden_size]."""
        with torch.autocast(x.device.type, enabled=False):
            return self._spikes(x if x.dtype == torch.float64 else x.float())

    def synaptic_operations(self, x: Tensor, spikes: Tensor) -> Tensor:
        """Counts the synaptic operations: each nonzero input and recurrent spike counts once for each row of weights.

        Args:
            x: the inputs [frames, batch, input_size].
            spikes: the output of `forward` for these inputs.
        """
        return (x.count_nonzero() + spikes[:-1].count_nonzero()) * len(self.cell.weight_ih)

    def _products(self, x: Tensor) -> Tensor:
        """Multiplies the inputs of all frames by the weights."""
        weight = self.cell.weight_ih
        if self.training:
            return F.linear(x, weight)
        # In evaluation, there is one product for each frame. The rounding of a single product over all frames would
        # depend on the length of the clip, and one additional or missing spike would change the rest of the clip.
        return torch.bmm(x, weight.t().expand(len(x), -1, -1))

    def _spikes(self, x: Tensor) -> Tensor:
        batchnorm = self.cell.batchnorm
        state = recall() or [x.new_zeros(x.shape[1], self.cell.weight_hh.shape[1])] * 2
        products = self._products(x)
        # The kernel does not compute a gradient for the state before the first frame.
        starts_anew = not any(each.requires_grad for each in state)
        if starts_anew and has_kernel(x) and (batchnorm is None or _is_usual(batchnorm, x)):
            spikes, state = self._at_once(products, *state)
        else:
            spikes, state = self._frame_by_frame(products, *state)
        if batchnorm is not None and batchnorm.training and batchnorm.num_batches_tracked is not None:
            batchnorm.num_batches_tracked += len(x)
        keep(state)
        return spikes

    def _at_once(self, products: Tensor, potential: Tensor, spike: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        weights, norm = self.cell, self.cell.batchnorm
        stats: list[Any] = [] if norm is None else [norm.weight, norm.bias, norm.running_mean, norm.running_var]
        options = (False, 0.0) if norm is None else (norm.training, norm.eps)
        biases, remember = weights.bias_ih.chunk(2), torch.is_grad_enabled()
        trace = SpikingTrace(
            *gated_spikes(products, weights.weight_hh, *biases, stats, *options, potential, spike, remember)
        )
        if norm is not None and norm.training:
            with torch.no_grad():
                for old, new in zip(stats[2:], trace[6:], strict=True):
                    old.copy_(new)
        # A view of the trace would keep the whole trace in memory, so this returns copies.
        return trace.spikes, (trace.potentials[-1].clone(), trace.spikes[-1].clone())

    def _frame_by_frame(
        self, products: Tensor, potential: Tensor, spike: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        weights = self.cell
        gate_bias, bias = weights.bias_ih.chunk(2)
        recurrent = weights.weight_hh.t()
        spikes = []
        for frame_products in products.unbind():
            inputs = torch.addmm(frame_products, spike, recurrent)
            to_gate, to_potential = (inputs, inputs) if weights.shared else inputs.chunk(2, 1)
            forget = (to_gate + gate_bias).sigmoid()
            potential = forget * potential + (1 - forget) * (to_potential + bias)
            if weights.batchnorm is not None:
                potential = _normalize(potential, weights.batchnorm)
            spike = _Spike.apply(potential)  # type: ignore[no-untyped-call]
            spikes.append(spike)
        return torch.stack(spikes), (potential, spike)


class _Weights(nn.Module):
    """The weights of a gated spiking layer, under the names that they have in the published weights."""

    def __init__(self, input_size: int, hidden_size: int, *, shared_weights: bool, bn: bool) -> None:
        super().__init__()
        rows = hidden_size if shared_weights else 2 * hidden_size
        self.shared = shared_weights
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(2 * hidden_size))
        for weight in self.parameters():
            nn.init.uniform_(weight, -1 / math.sqrt(hidden_size), 1 / math.sqrt(hidden_size))
        self.batchnorm = nn.BatchNorm1d(hidden_size) if bn else None


def _is_usual(norm: nn.BatchNorm1d, x: Tensor) -> bool:
    """Whether the kernel supports the batch norm: it must have running statistics, and get enough sequences."""
    return norm.running_mean is not None and (x.shape[1] > 1 or not norm.training)


def _normalize(potential: Tensor, norm: nn.BatchNorm1d) -> Tensor:
    # Calling the module would also increase its counter of batches, which is one more operation for each frame.
    return F.batch_norm(
        potential, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.training, MOMENTUM, norm.eps
    )


class GatedSpikingModel(nn.Module):
    """Two gated spiking layers and a linear layer.

    Args:
        input_size: the number of inputs.
        hidden_size: the number of neurons of each spiking layer.
        output_size: the number of outputs.
        shared_weights: as in `GatedSpikingLayer`.
        bn: as in `GatedSpikingLayer`.
    """

    def __init__(self, input_size: int, hidden_size: int, output_size: int, *, shared_weights: bool, bn: bool) -> None:
        super().__init__()
        self.sequence_model = _Stack(
            GatedSpikingLayer(size, hidden_size, shared_weights=shared_weights, bn=bn)
            for size in (input_size, hidden_size)
        )
        self.fc_output_layer = _Readout(hidden_size, output_size)

    def forward(self, x: Tensor) -> Tensor:
        """Transforms [frames, batch, input_size] to [frames, batch, output_size]."""
        output: Tensor = self.fc_output_layer(self.sequence_model(x))
        return output


class _Readout(nn.Linear):
    """A linear layer that receives spikes."""

    def synaptic_operations(self, spikes: Tensor, output: Tensor) -> Tensor:
        """Counts the spikes, each once for every output."""
        return spikes.count_nonzero() * self.out_features


class _Stack(nn.Module):
    """Layers one after the other."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x
