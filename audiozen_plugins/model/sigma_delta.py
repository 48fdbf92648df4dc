"""The layers of sigma-delta networks: quantisation, delta units, learned axonal delays, and blocks of these layers.

A sigma-delta network sends changes instead of values. When the input of a *delta unit* has changed by at least a
threshold, it sends the change as a spike. The *sigma unit* of the receiver sums the spikes. Weights and delays are
learned as in Shrestha et al., "Efficient Video and Audio Processing with Loihi 2", 2023.

Two choices make these blocks fast without changing what they compute:

- They pass on *levels*, the running sums of the spikes, instead of the spikes. A weight matrix and a delay commute with
  the running sum, so the sigma unit can be moved in front of both, directly after a delta unit. The backward pass
  ignores the threshold (a straight-through estimator), so the gradient of a delta unit with its sigma unit is the
  identity, and needs no computation.
- Tensors are laid out as [channels, frames, batch]. A delay then shifts whole rows, one matrix product handles all
  clips and frames, and each step of the recursion over the frames handles the whole batch.

Levels are counted in steps of 1/4096, the resolution of a spike. So levels are whole numbers, and sums of levels are
exact.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter

from audiozen_plugins.kernels.sigma_delta import delay_levels, delta_levels
from audiozen_plugins.model.past import keep, recall

STEPS_PER_UNIT = 4096
WEIGHT_STEP = 2 / 64
WEIGHT_LOW, WEIGHT_HIGH = -256 / 64, 254 / 64


class _Quantize(torch.autograd.Function):
    """Rounds to whole steps and clamps. The gradient is 1 between the limits, and 0 beyond them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: float, low: float, high: float) -> Tensor:
        rounded = x.div(step).round_().mul_(step)
        if low == -math.inf and high == math.inf:
            return rounded
        # Values up to half a step beyond the smallest and the largest multiple are rounded to these multiples.
        ctx.limits = (
            low if low == -math.inf else (math.ceil(low / step) - 0.5) * step,
            high if high == math.inf else (math.floor(high / step) + 0.5) * step,
        )
        ctx.save_for_backward(rounded)
        return rounded.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        grad = grads[0]
        for rounded in ctx.saved_tensors:
            # This sets the gradient to 0 beyond the limits, in one operation.
            grad = torch.ops.aten.hardtanh_backward(grad, rounded, *ctx.limits)
        return grad, None, None, None


def quantize(x: Tensor, step: float, low: float = -math.inf, high: float = math.inf) -> Tensor:
    """Rounds to multiples of a step, and then clamps. The backward pass ignores the rounding.

    Args:
        x: any tensor.
        step: the size of a step. A value halfway between two multiples is rounded to the even multiple.
        low: the smallest value.
        high: the largest value.

    Example:
        >>> quantize(torch.tensor([0.1, 0.3, 9.0]), step=0.25, high=4.0)
        tensor([0.0000, 0.2500, 4.0000])
    """
    quantized: Tensor = _Quantize.apply(x, step, low, high)  # type: ignore[no-untyped-call]
    return quantized


def delta_spikes(levels: Tensor) -> Tensor:
    """Computes the spikes [channels, frames, batch] that add up to levels of the same shape."""
    return torch.diff(levels, dim=1, prepend=torch.zeros_like(levels[:, :1]))


class Delta(nn.Module):
    """A delta unit. It sends a spike when its input has changed by at least the threshold since the last spike.

    With the activation `a` and `d[t] = a[t] - a[t-1] + r[t-1]`, it sends `y[t] = d[t]` if `|d[t]| >= threshold` and 0
    otherwise, and keeps the residual `r[t] = d[t] - y[t]`. A spike is rounded down to whole steps. The backward pass
    ignores the threshold and the rounding.

    Args:
        threshold: the smallest change that is sent. A threshold of 1 is 4096 steps. The threshold is rounded down to a
            multiple of 1/64, as on the neuromorphic hardware: 0.1 becomes 0.09375 (384 steps).
    """

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold: Tensor
        self.register_buffer("threshold", torch.tensor([math.floor(threshold * 64) / 64]))

    def forward(self, activation: Tensor, *, rectify: bool = False) -> Tensor:
        """Converts activations [channels, frames, batch], in steps of 1/4096, to levels of the same shape.

        With `rectify`, negative activations are replaced with zero first.
        """
        if not activation.shape[1]:
            return activation
        past = recall() or [activation.new_zeros(activation.shape[0], activation.shape[2])] * 3
        levels, residual = delta_levels(activation, self.threshold * STEPS_PER_UNIT, rectify, *past)
        last = activation[:, -1]
        keep((last.relu() if rectify else last.clone(), residual, levels[:, -1].clone()))
        return cast(Tensor, levels)


class AxonalDelay(nn.Module):
    """Delays each channel by a learned number of frames, from 0 to `max_delay`, plus a fixed number of frames.

    The learned delay is rounded down to whole frames. Its gradient is computed as if levels were differentiable in
    time.

    Args:
        channels: the number of channels.
        max_delay: the longest learned delay, in frames.
        fixed: a delay of all channels, in frames. It stands for the time that a spike takes to the next layer.
    """

    def __init__(self, channels: int, max_delay: int, fixed: int = 1) -> None:
        super().__init__()
        self.max_delay = max_delay
        self.fixed = fixed
        self.delay = Parameter(torch.rand(channels))

    def forward(self, levels: Tensor) -> Tensor:
        """Delays levels [channels, frames, batch]."""
        if self.training:
            # This keeps the parameter in its range. From far outside, it would take many steps to return.
            with torch.no_grad():
                self.delay.clamp_(0, self.max_delay)
        whole_delay = self.delay.detach().clamp(0, self.max_delay).floor().long() + self.fixed
        past = recall()
        joined = levels if past is None else torch.cat([past, levels], dim=1)
        delayed: Tensor = delay_levels(joined, self.delay, whole_delay)
        keep(joined[:, -(self.max_delay + self.fixed) :])
        return delayed if past is None else delayed[:, past.shape[1] :]


class Synapse(nn.Module):
    """A weight matrix that is rounded to 8 bits: to multiples of 1/32 from -4 to 254/64.

    Args:
        in_channels: the number of input channels.
        out_channels: the number of output channels.
        scale: the factor of the sums. A power of two does not change their digits.
    """

    def __init__(self, in_channels: int, out_channels: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        bound = 1 / math.sqrt(in_channels)
        # The shape is that of the published weights, which come from a 3-D convolution with one tap.
        self.weight = Parameter(torch.empty(out_channels, in_channels, 1, 1, 1).uniform_(-bound, bound))

    def forward(self, levels: Tensor) -> Tensor:
        """Computes weighted sums [out_channels, frames, batch] of levels [in_channels, frames, batch]."""
        weight = quantize(self.weight.flatten(1), WEIGHT_STEP, WEIGHT_LOW, WEIGHT_HIGH)
        if self.scale != 1:
            weight = weight * self.scale  # cheaper than scaling the sums, because there are fewer weights
        return (weight @ levels.flatten(1)).view(-1, *levels.shape[1:])

    def synaptic_operations(self, levels: Tensor, output: Tensor) -> Tensor:
        """Counts the spikes in levels [in_channels, frames, batch]. Each spike counts once for each output channel."""
        return delta_spikes(levels).count_nonzero() * len(output)


class Neuron(nn.Module):
    """A delta unit. By default, a rectifier comes first.

    Args:
        threshold: see `Delta`.
        rectify: whether to replace negative activations with zero.
    """

    def __init__(self, threshold: float, *, rectify: bool = True) -> None:
        super().__init__()
        self.rectify = rectify
        self.delta = Delta(threshold)
        self.bias: Tensor
        self.register_buffer("bias", torch.zeros(1))  # always 0; it exists because the published weights contain it

    def forward(self, activation: Tensor) -> Tensor:
        """Converts activations [channels, frames, batch], in steps of 1/4096, to levels of the same shape."""
        levels: Tensor = self.delta(activation, rectify=self.rectify)
        return levels


class InputBlock(nn.Module):
    """Quantises values, and converts them to levels with a delta unit.

    Args:
        threshold: see `Delta`.
        step: the step of the quantisation.
        low: the smallest value.
        high: the largest value.
    """

    def __init__(
        self, threshold: float, *, step: float = 1 / 64, low: float = -math.inf, high: float = math.inf
    ) -> None:
        super().__init__()
        self.step, self.low, self.high = step, low, high
        self.neuron = Neuron(threshold, rectify=False)

    def forward(self, x: Tensor) -> Tensor:
        """Converts values [channels, frames, batch] to levels of the same shape."""
        levels: Tensor = self.neuron(quantize(x, self.step, self.low, self.high).mul_(STEPS_PER_UNIT))
        return levels


class DenseBlock(nn.Module):
    """A dense layer: weighted sums, a rectifier, a delta unit, and axonal delays.

    Args:
        in_channels: the number of input channels.
        out_channels: the number of output channels.
        threshold: see `Delta`.
        max_delay: the longest learned delay, in frames. A fixed delay of one frame is added to it.
    """

    def __init__(self, in_channels: int, out_channels: int, threshold: float, max_delay: int) -> None:
        super().__init__()
        self.synapse = Synapse(in_channels, out_channels)
        self.neuron = Neuron(threshold)
        self.delay = AxonalDelay(out_channels, max_delay)

    def forward(self, levels: Tensor) -> Tensor:
        """Converts levels [in_channels, frames, batch] to levels [out_channels, frames, batch]."""
        delayed: Tensor = self.delay(self.neuron(self.synapse(levels)))
        return delayed


class OutputBlock(nn.Module):
    """Converts levels to values by weighted sums.

    Args:
        in_channels: the number of input channels.
        out_channels: the number of output channels.
        threshold: has no effect; it exists only because the published weights contain it.
    """

    def __init__(self, in_channels: int, out_channels: int, threshold: float) -> None:
        super().__init__()
        self.synapse = Synapse(in_channels, out_channels, scale=1 / STEPS_PER_UNIT)
        self.neuron = Neuron(threshold)

    def forward(self, levels: Tensor) -> Tensor:
        """Converts levels [in_channels, frames, batch] to values [out_channels, frames, batch]."""
        values: Tensor = self.synapse(levels)
        return values
