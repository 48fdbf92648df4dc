"""The building blocks of sigma-delta networks: quantisation, the delta unit, learned axonal delays, and whole blocks.

A sigma-delta network sends changes instead of values: a *delta unit* sends a spike, the change since its last one,
when that change reaches a threshold, and the receiver's *sigma unit* adds the spikes up again. Learning to send and
delay them follows Shrestha et al., "Efficient Video and Audio Processing with Loihi 2", 2023.

Two choices make these blocks fast without changing what they compute:

- They pass on *levels*, the running sum of the spikes, and not the spikes. A weight matrix and a delay commute with the
  running sum, so the sigma unit may stand before them. And since the gradient of a spike passes straight through the
  threshold, that of a delta unit followed by a sigma unit is the identity: there is nothing to compute.
- Tensors are laid out as [channels, frames, batch]. A delay is then a shift of whole rows, a matrix product is one
  product for all clips and frames, and the recursion over the frames works on a whole batch at once.

Levels are counted in steps of 1/4096, the resolution of a spike, so they are whole numbers, and sums of them are exact.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter

STEPS_PER_UNIT = 4096
WEIGHT_STEP = 2 / 64
WEIGHT_LOW, WEIGHT_HIGH = -256 / 64, 254 / 64


class _Round(torch.autograd.Function):
    """Rounding whose gradient is one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: float) -> Tensor:
        return x.div(step).round_().mul_(step)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def quantize(x: Tensor, step: float, low: float = -math.inf, high: float = math.inf) -> Tensor:
    """Round to whole steps, then clamp; the gradient passes straight through the rounding.

    Args:
        x: any tensor.
        step: the size of a step; a half rounds to the even one.
        low: the least value.
        high: the greatest value.

    Example:
        >>> quantize(torch.tensor([0.1, 0.3, 9.0]), step=0.25, high=4.0)
        tensor([0.0000, 0.2500, 4.0000])
    """
    rounded: Tensor = _Round.apply(x, step)  # type: ignore[no-untyped-call]
    return rounded if low == -math.inf and high == math.inf else rounded.clamp(low, high)


def delta_spikes(levels: Tensor) -> Tensor:
    """The spikes that add up to these levels: [channels, frames, batch], the first frame counted from zero."""
    return torch.diff(levels, dim=1, prepend=torch.zeros_like(levels[:, :1]))


class _DeltaSigma(torch.autograd.Function):
    """A delta unit and the sigma unit that hears it; see `Delta` for what it computes."""

    @staticmethod
    def forward(ctx: Any, activation: Tensor, threshold: float) -> Tensor:
        levels = torch.empty_like(activation)
        frames = levels.unbind(1)
        previous = activation.new_zeros(activation.shape[0], activation.shape[2])
        change, residual = torch.empty_like(previous), previous.clone()
        for now, spike in zip(activation.unbind(1), frames, strict=True):
            torch.sub(now, previous, out=change).add_(residual)
            # "The gradient of hardtanh" keeps what is within (-threshold, threshold), that is, what is not sent.
            torch.ops.aten.hardtanh_backward.grad_input(change, change, -threshold, threshold, grad_input=residual)
            torch.sub(change, residual, out=spike)
            previous = now
        levels.floor_()  # all at once: torch spreads even a small floor over the cores, which costs more than it saves
        for before, spike in itertools.pairwise(frames):
            spike.add_(before)
        return levels

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        # Sigma: the sum of all later gradients. Delta: that minus the next frame's. Together: the gradient itself.
        return grads[0], None


class Delta(nn.Module):
    """A delta unit, which sends a spike when the change of its input since the last spike reaches the threshold.

    With `d[t] = a[t] - a[t-1] + r[t-1]`, it sends `y[t] = d[t]` where `|d[t]| >= threshold`, else 0, and keeps the
    residual `r[t] = d[t] - y[t]`. What is sent is floored to whole steps. The gradient passes straight through the
    threshold and the floor.

    Args:
        threshold: the smallest change that is sent, of the activation's own unit; floored to steps of 1/64 here, as
            the neuromorphic hardware has it (0.1 becomes 0.09375).
    """

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold: Tensor
        self.register_buffer("threshold", torch.tensor([math.floor(threshold * 64) / 64]))

    def forward(self, activation: Tensor) -> Tensor:
        """Activations [channels, frames, batch], in steps, to levels of the same shape."""
        levels: Tensor = _DeltaSigma.apply(activation, self.threshold.item() * STEPS_PER_UNIT)  # type: ignore[no-untyped-call]
        return levels


class _Shift(torch.autograd.Function):
    """Each channel's rows moved on by its own number of frames, zeros moved in."""

    @staticmethod
    def forward(ctx: Any, levels: Tensor, delay: Tensor, frames: Tensor) -> Tensor:
        shifted = _shift_rows(levels, frames)
        ctx.save_for_backward(shifted, frames)
        return shifted

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (grad,) = grads
        shifted, frames = ctx.saved_tensors
        # A longer delay lowers a rising level: d level / d delay = -(its rise since the last frame), the spike.
        rise = torch.sub(shifted[:, 1:], shifted[:, :-1]).mul_(grad[:, 1:]).sum(dim=(1, 2))
        rise += torch.sum(shifted[:, 0] * grad[:, 0], dim=1)
        return _shift_rows(grad, -frames), -rise, None


def _shift_rows(x: Tensor, frames: Tensor) -> Tensor:
    """x[c, t - frames[c], b], zero outside."""
    channels, length, batch = x.shape
    source = torch.arange(length, device=x.device) - frames[:, None]
    outside = (source < 0) | (source >= length)
    rows = source.clamp(0, length - 1) + torch.arange(channels, device=x.device)[:, None] * length
    shifted = x.reshape(-1, batch).index_select(0, rows.view(-1))
    return shifted.index_fill_(0, outside.view(-1).nonzero().squeeze(1), 0).view(x.shape)


class AxonalDelay(nn.Module):
    """A learned delay of each channel, in frames, from zero to `max_delay`, beside a fixed one.

    The learned value is floored to whole frames; its gradient takes the level for differentiable in time.

    Args:
        channels: the number of channels.
        max_delay: the longest learned delay, in frames.
        fixed: a delay of all channels, in frames, that comes first: the time that a spike takes to the next layer.
    """

    def __init__(self, channels: int, max_delay: int, fixed: int = 1) -> None:
        super().__init__()
        self.max_delay = max_delay
        self.fixed = fixed
        self.delay = Parameter(torch.rand(channels))

    def forward(self, levels: Tensor) -> Tensor:
        """Levels [channels, frames, batch], delayed."""
        if self.training:
            with torch.no_grad():  # the value itself is kept in range, so that the gradient can always bring it back
                self.delay.clamp_(0, self.max_delay)
        frames = self.delay.detach().clamp(0, self.max_delay).floor().long() + self.fixed
        shifted: Tensor = _Shift.apply(levels, self.delay, frames)  # type: ignore[no-untyped-call]
        return shifted


class Synapse(nn.Module):
    """A matrix of weights, rounded to 8 bits: steps of 1/32 from -4 to 254/64.

    Args:
        in_channels: the number of channels that come in.
        out_channels: the number of channels that go out.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_channels)
        self.weight = Parameter(torch.empty(out_channels, in_channels, 1, 1, 1).uniform_(-bound, bound))

    def forward(self, levels: Tensor) -> Tensor:
        """Levels [in_channels, frames, batch] to their weighted sums [out_channels, frames, batch]."""
        weight = quantize(self.weight.flatten(1), WEIGHT_STEP, WEIGHT_LOW, WEIGHT_HIGH)
        return (weight @ levels.flatten(1)).view(-1, *levels.shape[1:])


class Neuron(nn.Module):
    """A rectifier, if asked for, before a delta unit.

    Args:
        threshold: see `Delta`.
        rectify: whether negative activations count as zero.
    """

    def __init__(self, threshold: float, *, rectify: bool = True) -> None:
        super().__init__()
        self.rectify = rectify
        self.delta = Delta(threshold)
        self.bias: Tensor
        self.register_buffer("bias", torch.zeros(1))  # always zero; published weights hold one

    def forward(self, activation: Tensor) -> Tensor:
        """Activations [channels, frames, batch], in steps, to levels of the same shape."""
        levels: Tensor = self.delta(activation.relu() if self.rectify else activation)
        return levels


class InputBlock(nn.Module):
    """Values to levels: quantised, then sent by a delta unit.

    Args:
        threshold: see `Delta`.
        step: the step to which the values are rounded.
        low: the least value.
        high: the greatest value.
    """

    def __init__(
        self, threshold: float, *, step: float = 1 / 64, low: float = -math.inf, high: float = math.inf
    ) -> None:
        super().__init__()
        self.step, self.low, self.high = step, low, high
        self.neuron = Neuron(threshold, rectify=False)

    def forward(self, x: Tensor) -> Tensor:
        """Values [channels, frames, batch] to levels of the same shape."""
        levels: Tensor = self.neuron(quantize(x, self.step, self.low, self.high) * STEPS_PER_UNIT)
        return levels


class DenseBlock(nn.Module):
    """Levels to levels: weighted sums, rectified, sent by a delta unit, and delayed.

    Args:
        in_channels: the number of channels that come in.
        out_channels: the number of channels that go out.
        threshold: see `Delta`.
        max_delay: the longest learned delay, in frames; one frame more goes by in any case.
    """

    def __init__(self, in_channels: int, out_channels: int, threshold: float, max_delay: int) -> None:
        super().__init__()
        self.synapse = Synapse(in_channels, out_channels)
        self.neuron = Neuron(threshold)
        self.delay = AxonalDelay(out_channels, max_delay)

    def forward(self, levels: Tensor) -> Tensor:
        """Levels [in_channels, frames, batch] to levels [out_channels, frames, batch]."""
        delayed: Tensor = self.delay(self.neuron(self.synapse(levels)))
        return delayed


class OutputBlock(nn.Module):
    """Levels to values: weighted sums.

    Args:
        in_channels: the number of channels that come in.
        out_channels: the number of channels that go out.
        threshold: not used; a published network holds one.
    """

    def __init__(self, in_channels: int, out_channels: int, threshold: float) -> None:
        super().__init__()
        self.synapse = Synapse(in_channels, out_channels)
        self.neuron = Neuron(threshold)

    def forward(self, levels: Tensor) -> Tensor:
        """Levels [in_channels, frames, batch] to values [out_channels, frames, batch]."""
        values: Tensor = self.synapse(levels) / STEPS_PER_UNIT
        return values
