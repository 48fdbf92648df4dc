"""The parts of sigma-delta networks: quantisation, the delta unit, learned axonal delays, and whole blocks.

A sigma-delta network sends changes instead of values. When the input of a *delta unit* has changed by at least a
threshold, it sends the change as a spike. The *sigma unit* of the receiver adds the spikes up again. Weights and delays
are learned as in Shrestha et al., "Efficient Video and Audio Processing with Loihi 2", 2023.

Two choices make these blocks fast without changing what they compute:

- They pass on *levels*, the running sums of the spikes, instead of the spikes. A weight matrix and a delay commute with
  the running sum, so the sigma unit can be moved in front of them. There it directly follows a delta unit. The gradient
  of a spike passes straight through the threshold, so the gradient of both units together is the identity, and needs no
  computation.
- Tensors are laid out as [channels, frames, batch]. A delay then shifts whole rows, one matrix product handles all
  clips and frames, and each step of the recursion over the frames handles the whole batch.

The unit of a level is 1/4096, the resolution of a spike. So levels are whole numbers, and sums of them are exact.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter

from audiozen_plugins.model.past import keep, recall

STEPS_PER_UNIT = 4096
WEIGHT_STEP = 2 / 64
WEIGHT_LOW, WEIGHT_HIGH = -256 / 64, 254 / 64


class _Round(torch.autograd.Function):
    """Rounds to whole steps, with a gradient of one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: float) -> Tensor:
        return x.div(step).round_().mul_(step)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def quantize(x: Tensor, step: float, low: float = -math.inf, high: float = math.inf) -> Tensor:
    """Rounds to whole steps, and then clamps. The gradient passes straight through the rounding.

    Args:
        x: any tensor.
        step: the size of a step. A value halfway between two steps is rounded to the even one.
        low: the smallest value.
        high: the largest value.

    Example:
        >>> quantize(torch.tensor([0.1, 0.3, 9.0]), step=0.25, high=4.0)
        tensor([0.0000, 0.2500, 4.0000])
    """
    rounded: Tensor = _Round.apply(x, step)  # type: ignore[no-untyped-call]
    return rounded if low == -math.inf and high == math.inf else rounded.clamp(low, high)


def delta_spikes(levels: Tensor) -> Tensor:
    """Computes the spikes [channels, frames, batch] that add up to levels of the same shape."""
    return torch.diff(levels, dim=1, prepend=torch.zeros_like(levels[:, :1]))


class _DeltaSigma(torch.autograd.Function):
    """A delta unit, followed by a sigma unit. `Delta` documents the computation."""

    @staticmethod
    def forward(
        ctx: Any, activation: Tensor, threshold: float, previous: Tensor, residual: Tensor, level: Tensor
    ) -> tuple[Tensor, Tensor]:
        spikes = torch.empty_like(activation)
        change, residual = torch.empty_like(previous), residual.clone()
        for now, spike in zip(activation.unbind(1), spikes.unbind(1), strict=True):
            torch.sub(now, previous, out=change).add_(residual)
            # The residual is the change if its magnitude is below the threshold, and 0 otherwise. `hardtanh_backward`
            # computes exactly that in one operation, where `abs`, `<` and `where` would be three.
            torch.ops.aten.hardtanh_backward.grad_input(change, change, -threshold, threshold, grad_input=residual)
            torch.sub(change, residual, out=spike)
            previous = now
        # One call for all frames. For a single frame, torch would start several threads. That takes longer than the
        # rounding itself.
        spikes.floor_()
        # The running sum is computed in place: each spike becomes the level of its frame.
        levels = spikes
        for before, now in itertools.pairwise((level, *levels.unbind(1))):
            now.add_(before)
        ctx.mark_non_differentiable(residual)
        return levels, residual

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        # Backwards, the sigma unit gives each spike the sum of the gradients of its own and all later frames. The delta
        # unit subtracts the same sum of the next frame. So the gradient of the frame itself remains.
        return grads[0], None, None, None, None


class Delta(nn.Module):
    """A delta unit. It sends a spike when its input has changed by at least the threshold since the last spike.

    With `d[t] = a[t] - a[t-1] + r[t-1]`, it sends `y[t] = d[t]` if `|d[t]| >= threshold` and 0 otherwise, and keeps the
    residual `r[t] = d[t] - y[t]`. A spike is rounded down to whole steps. The gradient passes straight through the
    threshold and the rounding.

    Args:
        threshold: the smallest change that is sent; 1 means 4096 of the steps that `forward` counts in. The threshold
            is rounded down to a multiple of 1/64, as on the neuromorphic hardware: 0.1 becomes 0.09375 (384 steps).
    """

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold: Tensor
        self.register_buffer("threshold", torch.tensor([math.floor(threshold * 64) / 64]))

    def forward(self, activation: Tensor) -> Tensor:
        """Converts activations [channels, frames, batch], in steps of 1/4096, to levels of the same shape."""
        if not activation.shape[1]:
            return activation
        past = recall() or [activation.new_zeros(activation.shape[0], activation.shape[2])] * 3
        levels, residual = _DeltaSigma.apply(activation, self.threshold.item() * STEPS_PER_UNIT, *past)  # type: ignore[no-untyped-call]
        keep((activation[:, -1].clone(), residual, levels[:, -1].clone()))
        return cast(Tensor, levels)


class _Shift(torch.autograd.Function):
    """Delays each channel by its own number of frames."""

    @staticmethod
    def forward(ctx: Any, levels: Tensor, delay: Tensor, whole_delay: Tensor) -> Tensor:
        shifted = _shift_rows(levels, whole_delay)
        ctx.save_for_backward(shifted, whole_delay)
        return shifted

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (grad,) = grads
        shifted, whole_delay = ctx.saved_tensors
        # A longer delay lowers a rising level: d level / d delay is minus the rise of the level since the last frame.
        rise = torch.sub(shifted[:, 1:], shifted[:, :-1]).mul_(grad[:, 1:]).sum(dim=(1, 2))
        rise += torch.sum(shifted[:, 0] * grad[:, 0], dim=1)
        return _shift_rows(grad, -whole_delay), -rise, None


def _shift_rows(x: Tensor, delay: Tensor) -> Tensor:
    """Returns x[c, t - delay[c], b], and zero where `t - delay[c]` is outside of x; delays are whole frames."""
    channels, length, batch = x.shape
    source = torch.arange(length, device=x.device) - delay[:, None]
    outside = (source < 0) | (source >= length)
    rows = source.clamp(0, length - 1) + torch.arange(channels, device=x.device)[:, None] * length
    shifted = x.reshape(-1, batch).index_select(0, rows.view(-1))
    return shifted.index_fill_(0, outside.view(-1).nonzero().squeeze(1), 0).view(x.shape)


class AxonalDelay(nn.Module):
    """Delays each channel by a learned number of frames, from 0 to `max_delay`, and all channels by a fixed one.

    The learned delay is rounded down to whole frames. Its gradient treats the level as differentiable in time.

    Args:
        channels: the number of channels.
        max_delay: the longest learned delay, in frames.
        fixed: the delay of all channels, in frames: the time that a spike takes to the next layer.
    """

    def __init__(self, channels: int, max_delay: int, fixed: int = 1) -> None:
        super().__init__()
        self.max_delay = max_delay
        self.fixed = fixed
        self.delay = Parameter(torch.rand(channels))

    def forward(self, levels: Tensor) -> Tensor:
        """Delays levels [channels, frames, batch]."""
        if self.training:
            # Keeps the parameter in range. A parameter far outside would take many steps to return.
            with torch.no_grad():
                self.delay.clamp_(0, self.max_delay)
        whole_delay = self.delay.detach().clamp(0, self.max_delay).floor().long() + self.fixed
        past = recall()
        joined = levels if past is None else torch.cat([past, levels], dim=1)
        shifted: Tensor = _Shift.apply(joined, self.delay, whole_delay)  # type: ignore[no-untyped-call]
        keep(joined[:, -(self.max_delay + self.fixed) :])
        return shifted[:, shifted.shape[1] - levels.shape[1] :]


class Synapse(nn.Module):
    """A weight matrix, rounded to 8 bits: steps of 1/32 from -4 to 254/64.

    Args:
        in_channels: the number of input channels.
        out_channels: the number of output channels.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_channels)
        # The published weights come from a 3-D convolution with one tap. They load unchanged into the same shape.
        self.weight = Parameter(torch.empty(out_channels, in_channels, 1, 1, 1).uniform_(-bound, bound))

    def forward(self, levels: Tensor) -> Tensor:
        """Computes weighted sums [out_channels, frames, batch] of levels [in_channels, frames, batch]."""
        weight = quantize(self.weight.flatten(1), WEIGHT_STEP, WEIGHT_LOW, WEIGHT_HIGH)
        return (weight @ levels.flatten(1)).view(-1, *levels.shape[1:])

    def synaptic_operations(self, levels: Tensor, output: Tensor) -> Tensor:
        """Counts the spikes of levels [in_channels, frames, batch], each once for every output."""
        return delta_spikes(levels).count_nonzero() * len(output)


class Neuron(nn.Module):
    """A delta unit, by default after a rectifier.

    Args:
        threshold: see `Delta`.
        rectify: whether to replace negative activations with zero.
    """

    def __init__(self, threshold: float, *, rectify: bool = True) -> None:
        super().__init__()
        self.rectify = rectify
        self.delta = Delta(threshold)
        self.bias: Tensor
        self.register_buffer("bias", torch.zeros(1))  # always zero; it exists because the published weights contain it

    def forward(self, activation: Tensor) -> Tensor:
        """Converts activations [channels, frames, batch], in steps of 1/4096, to levels of the same shape."""
        levels: Tensor = self.delta(activation.relu() if self.rectify else activation)
        return levels


class InputBlock(nn.Module):
    """Converts values to levels: quantises them, and sends them through a delta unit.

    Args:
        threshold: see `Delta`.
        step: the step that values are rounded to.
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
        levels: Tensor = self.neuron(quantize(x, self.step, self.low, self.high) * STEPS_PER_UNIT)
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
        threshold: has no effect on the values; it exists because the published weights contain it.
    """

    def __init__(self, in_channels: int, out_channels: int, threshold: float) -> None:
        super().__init__()
        self.synapse = Synapse(in_channels, out_channels)
        self.neuron = Neuron(threshold)

    def forward(self, levels: Tensor) -> Tensor:
        """Converts levels [in_channels, frames, batch] to values [out_channels, frames, batch]."""
        values: Tensor = self.synapse(levels) / STEPS_PER_UNIT
        return values
