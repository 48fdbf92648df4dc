"""Triton kernels of the sigma-delta network: see `sigma_delta`. Importing this module requires Triton."""

# Triton compiles these functions, and its types are not Python's.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: ANN001, ANN202, N803

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_NEURONS = 32
_FRAMES = 1024


@triton.jit
def _delta_levels(
    activation,
    previous,
    residual,
    level,
    levels,
    last_residual,
    threshold,
    frames,
    batch,
    count,
    RECTIFY: tl.constexpr,
    NEURONS: tl.constexpr,
):
    """Each program runs some neurons through all frames. A neuron is one channel of one clip."""
    neuron = tl.program_id(0) * NEURONS + tl.arange(0, NEURONS)
    exists = neuron < count
    place = (neuron // batch).to(tl.int64) * frames * batch + neuron % batch  # the index of the first frame
    last = tl.load(previous + neuron, exists)
    unsent = tl.load(residual + neuron, exists)
    total = tl.load(level + neuron, exists)
    limit = tl.load(threshold)
    next_frame = tl.load(activation + place, exists)
    for frame in range(frames):
        current = next_frame
        # The next frame is loaded while this frame is computed.
        next_frame = tl.load(activation + place + tl.minimum(frame + 1, frames - 1) * batch, exists)
        if RECTIFY:
            current = tl.where(current < 0, tl.zeros_like(current), current)
        change = (current - last) + unsent
        unsent = tl.where((change <= -limit) | (change >= limit), tl.zeros_like(change), change)
        total += tl.floor(change - unsent)
        tl.store(levels + place + frame * batch, total, exists)
        last = current
    tl.store(last_residual + neuron, unsent, exists)


def delta_levels(
    activation: Tensor, threshold: Tensor, rectify: bool, previous: Tensor, residual: Tensor, level: Tensor
) -> tuple[Tensor, Tensor]:
    """Computes `sigma_delta.delta_levels`."""
    activation = activation.contiguous()
    channels, frames, batch = activation.shape
    levels = torch.empty_like(activation)
    last_residual = torch.empty_like(residual, memory_format=torch.contiguous_format)
    states = [state.contiguous() for state in (previous, residual, level)]
    count = channels * batch
    _delta_levels[(triton.cdiv(count, _NEURONS),)](
        activation, *states, levels, last_residual, threshold.to(activation.dtype), frames, batch, count,
        RECTIFY=rectify, NEURONS=_NEURONS, num_warps=1,
    )  # fmt: skip
    return levels, last_residual


@triton.jit
def _delay_levels(levels, whole_delay, delayed, frames, batch, SIZE: tl.constexpr):
    """Each program writes a part of one channel."""
    channel = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * SIZE + tl.arange(0, SIZE)
    size = frames * batch
    late = tl.load(whole_delay + channel)
    late = tl.where((late >= 0) & (late < frames), late, frames) * batch
    values = tl.load(levels + channel * size + place - late, (place >= late) & (place < size), other=0)
    tl.store(delayed + channel * size + place, values, place < size)


def delay_levels(levels: Tensor, whole_delay: Tensor) -> Tensor:
    """Computes `sigma_delta.delay_levels`."""
    levels = levels.contiguous()
    channels, frames, batch = levels.shape
    delayed = torch.empty_like(levels)
    grid = (channels, triton.cdiv(frames * batch, _FRAMES))
    _delay_levels[grid](levels, whole_delay.contiguous(), delayed, frames, batch, SIZE=_FRAMES)
    return delayed


@triton.jit
def _delay_levels_backward(
    grad,
    delayed,
    whole_delay,
    grad_levels,
    grad_delay,
    frames,
    batch,
    SIZE: tl.constexpr,
):
    """Each program goes through one channel."""
    channel = tl.program_id(0).to(tl.int64)
    size = frames * batch
    late = tl.load(whole_delay + channel)
    late = tl.where((late >= 0) & (late < frames), late, frames) * batch
    rises = tl.zeros((SIZE,), delayed.dtype.element_ty)
    for start in range(0, size, SIZE):
        place = start + tl.arange(0, SIZE)
        inside = place < size
        grads = tl.load(grad + channel * size + place, inside, other=0)
        current = tl.load(delayed + channel * size + place, inside, other=0)
        before = tl.load(delayed + channel * size + place - batch, inside & (place >= batch), other=0)
        rises += (current - before) * grads
        later = tl.load(grad + channel * size + place + late, place + late < size, other=0)
        tl.store(grad_levels + channel * size + place, later, inside)
    tl.store(grad_delay + channel, -tl.sum(rises, 0))


def delay_levels_backward(grad: Tensor, delayed: Tensor, whole_delay: Tensor) -> tuple[Tensor, Tensor]:
    """Computes `sigma_delta.delay_levels_backward`."""
    grad = grad.contiguous()
    channels, frames, batch = grad.shape
    grad_levels, grad_delay = torch.empty_like(grad), grad.new_empty(channels)
    _delay_levels_backward[(channels,)](
        grad, delayed.contiguous(), whole_delay.contiguous(), grad_levels, grad_delay, frames, batch, SIZE=_FRAMES
    )
    return grad_levels, grad_delay
