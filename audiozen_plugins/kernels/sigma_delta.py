"""Operators of the sigma-delta network: delta units, and delays by whole frames.

A delta unit sends spikes, and the *level* of a unit is the running sum of its spikes.

Each operator has three forms: numba on the CPU, Triton on the GPU, and PyTorch for all other cases. All forms compute
the same levels, bit for bit. The gradient of a delay is a sum. Each form adds it in another order, so the results
differ by rounding errors.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiozen_plugins.kernels import on_gpu
from audiozen_plugins.kernels.on_cpu import can_compute, cpu_kernel, to_read, to_write
from audiozen_plugins.kernels.operators import differentiable, operator

_FLOATS = (torch.float32, torch.float64)


def _fits_gpu(x: Tensor) -> bool:
    return x.dtype in _FLOATS and on_gpu.is_available(x.device)


@operator(
    "delta_levels(Tensor activation, Tensor threshold, bool rectify, Tensor previous, Tensor residual, Tensor level)"
    " -> (Tensor, Tensor)",
    shapes=lambda activation, threshold, rectify, previous, residual, level: (
        torch.empty_like(activation, memory_format=torch.contiguous_format),
        torch.empty_like(residual, memory_format=torch.contiguous_format),
    ),
)
def delta_levels(
    activation: Tensor, threshold: Tensor, rectify: bool, previous: Tensor, residual: Tensor, level: Tensor
) -> tuple[Tensor, Tensor]:
    """Computes the levels of delta units. A level is the running sum of the spikes of a unit.

    The backward pass ignores the threshold and the rounding (a straight-through estimator). With `rectify`, the
    gradient is 0 where the activation is not positive.

    Args:
        activation: activations [channels, frames, batch], in the same unit as the levels.
        threshold: the smallest change that is sent [1]. It is a tensor, because the CPU would have to wait for the GPU
            to get a Python number.
        rectify: whether to replace negative activations with zero first.
        previous: the activation [channels, batch] before the first frame, rectified.
        residual: the change [channels, batch] that was not sent before the first frame.
        level: the level [channels, batch] before the first frame.

    Returns:
        The levels [channels, frames, batch], and the residual after the last frame, which has no gradient.
    """
    if _fits_gpu(activation):
        from audiozen_plugins.kernels import sigma_delta_triton  # imports Triton

        return sigma_delta_triton.delta_levels(activation, threshold, rectify, previous, residual, level)
    if can_compute(activation):
        levels = torch.empty_like(activation, memory_format=torch.contiguous_format)
        residual = residual.clone(memory_format=torch.contiguous_format)
        limit = threshold.to(activation.dtype)
        _delta_levels(
            _in_pieces(*to_read(activation)),
            *to_read(limit),
            rectify,
            *to_read(previous),
            *to_write(residual),
            *to_read(level),
            _in_pieces(*to_write(levels)),
        )
        return levels, residual
    return _plain_delta_levels(
        activation.relu() if rectify else activation, threshold.item(), previous, residual, level
    )


def _plain_delta_levels(
    activation: Tensor, threshold: float, previous: Tensor, residual: Tensor, level: Tensor
) -> tuple[Tensor, Tensor]:
    spikes = torch.empty_like(activation, memory_format=torch.contiguous_format)
    change, residual = torch.empty_like(previous), residual.clone()
    for current, spike in zip(activation.unbind(1), spikes.unbind(1), strict=True):
        torch.sub(current, previous, out=change).add_(residual)
        # The residual is the change if its magnitude is below the threshold, and 0 otherwise. `hardtanh_backward`
        # computes exactly this in one operation instead of three (`abs`, `<` and `where`).
        torch.ops.aten.hardtanh_backward.grad_input(change, change, -threshold, threshold, grad_input=residual)
        torch.sub(change, residual, out=spike)
        previous = current
    # All frames are rounded in one call. A call for each frame would start several threads each time, which takes
    # longer than the rounding itself.
    spikes.floor_()
    # The running sum is computed in place: each spike becomes the level of its frame.
    levels = spikes
    for before, current in itertools.pairwise((level, *levels.unbind(1))):
        current.add_(before)
    return levels, residual


def _in_pieces(array: NDArray[Any]) -> NDArray[Any]:
    """Returns the same memory [channels, frames, pieces]. A piece is a number, or 16 bytes of a small batch.

    The compiler can't use vectors to copy the numbers of a small batch. Four numbers at once are copied as fast as one.
    """
    return array.view(np.complex128) if array.itemsize * array.shape[2] in (16, 32) else array


_CHANNELS, _FRAMES = 16, 32


@cpu_kernel()
def _delta_levels(  # noqa: PLR0912 - numba compiles one loop
    activation: Any, thresholds: Any, rectify: Any, previous: Any, residual: Any, level: Any, levels: Any
) -> None:
    """Writes `levels`, and overwrites `residual` with the residual after the last frame.

    `activation` and `levels` come from `_in_pieces`.

    A neuron (one channel of one clip) needs its previous frame before it can compute the next frame, so a loop over
    frames can't be vectorised. The kernel copies 32 frames of 16 channels, so that the neurons of each frame are next
    to each other in memory. The innermost loop then goes over these neurons, and the compiler can vectorise it.
    """
    channels, frames, pieces = activation.shape
    batch = previous.shape[1]
    threshold, zero = thresholds[0], np.zeros(1, previous.dtype)[0]
    tile = np.empty((_FRAMES, _CHANNELS * batch), previous.dtype)
    tile_pieces = tile.view(activation.dtype)
    last = np.empty(_CHANNELS * batch, previous.dtype)
    unsent = np.empty(_CHANNELS * batch, previous.dtype)
    total = np.empty(_CHANNELS * batch, previous.dtype)
    for first in range(0, channels, _CHANNELS):
        some = min(_CHANNELS, channels - first)
        for c in range(some):
            last[c * batch : (c + 1) * batch] = previous[first + c]
            unsent[c * batch : (c + 1) * batch] = residual[first + c]
            total[c * batch : (c + 1) * batch] = level[first + c]
        for start in range(0, frames, _FRAMES):
            length = min(_FRAMES, frames - start)
            for c in range(some):
                row, place = activation[first + c], c * pieces
                if pieces < 4:  # the longer loop is the inner one
                    for p in range(pieces):
                        for t in range(length):
                            tile_pieces[t, place + p] = row[start + t, p]
                else:
                    for t in range(length):
                        for p in range(pieces):
                            tile_pieces[t, place + p] = row[start + t, p]
            for t in range(length):
                line = tile[t]
                for i in range(some * batch):
                    current = line[i]
                    if rectify and current < zero:
                        current = zero
                    change = (current - last[i]) + unsent[i]
                    kept = zero if change <= -threshold or change >= threshold else change
                    total[i] += np.floor(change - kept)
                    unsent[i] = kept
                    last[i] = current
                    line[i] = total[i]
            for c in range(some):
                row, place = levels[first + c], c * pieces
                if pieces < 4:
                    for p in range(pieces):
                        for t in range(length):
                            row[start + t, p] = tile_pieces[t, place + p]
                else:
                    for t in range(length):
                        for p in range(pieces):
                            row[start + t, p] = tile_pieces[t, place + p]
        for c in range(some):
            residual[first + c] = unsent[c * batch : (c + 1) * batch]


def _keep_activation(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    activation, _, rectify, *_ = inputs
    ctx.mark_non_differentiable(output[1])
    if rectify:
        ctx.save_for_backward(activation)


def _delta_gradient(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    # In the backward pass, the running sum gives each spike the sum of the gradients of its own and all later frames.
    # The delta unit subtracts this sum for the next frame. What remains is the gradient of the frame itself.
    grad = grads[0]
    if saved := ctx.saved_tensors:
        grad = torch.ops.aten.threshold_backward(grad, saved[0], 0)
    return grad, None, None, None, None, None


differentiable("delta_levels", keep=_keep_activation, backward=_delta_gradient)


@operator(
    "delay_levels(Tensor levels, Tensor delay, Tensor whole_delay) -> Tensor",
    shapes=lambda levels, delay, whole_delay: torch.empty_like(levels, memory_format=torch.contiguous_format),
)
def delay_levels(levels: Tensor, delay: Tensor, whole_delay: Tensor) -> Tensor:
    """Delays each channel by its own number of frames, and fills its first frames with zeros.

    Args:
        levels: levels [channels, frames, batch].
        delay: the learned delays [channels] in frames. They affect only the backward pass, which computes their
            gradient as if levels were differentiable in time.
        whole_delay: the delays [channels] in whole frames, at least 0.

    Returns:
        The delayed levels, of the same shape.
    """
    if _fits_gpu(levels):
        from audiozen_plugins.kernels import sigma_delta_triton  # imports Triton

        return sigma_delta_triton.delay_levels(levels, whole_delay)
    if can_compute(levels):
        delayed = torch.empty_like(levels, memory_format=torch.contiguous_format)
        _delay_levels(*to_read(levels, whole_delay), *to_write(delayed))
        return delayed
    return _shift_rows(levels, whole_delay)


def _shift_rows(x: Tensor, delay: Tensor) -> Tensor:
    """Returns x[c, t - delay[c], b], or zero if `t - delay[c]` is not a frame of x. Delays are whole numbers."""
    channels, length, batch = x.shape
    source = torch.arange(length, device=x.device) - delay[:, None]
    outside = (source < 0) | (source >= length)
    rows = source.clamp(0, length - 1) + torch.arange(channels, device=x.device)[:, None] * length
    shifted = x.reshape(-1, batch).index_select(0, rows.view(-1))
    return shifted.index_fill_(0, outside.view(-1).nonzero().squeeze(1), 0).view(x.shape)


@cpu_kernel()
def _delay_levels(levels: Any, whole_delay: Any, delayed: Any) -> None:
    channels, frames, batch = levels.shape
    for c in range(channels):
        late = (whole_delay[c] if 0 <= whole_delay[c] < frames else frames) * batch
        source, target = levels[c].reshape(-1), delayed[c].reshape(-1)
        for i in range(late):
            target[i] = 0
        for i in range(late, frames * batch):
            target[i] = source[i - late]


@operator(
    "delay_levels_backward(Tensor grad, Tensor delayed, Tensor whole_delay) -> (Tensor, Tensor)",
    shapes=lambda grad, delayed, whole_delay: (
        torch.empty_like(grad, memory_format=torch.contiguous_format),
        grad.new_empty(len(grad)),
    ),
)
def delay_levels_backward(grad: Tensor, delayed: Tensor, whole_delay: Tensor) -> tuple[Tensor, Tensor]:
    """Computes the gradients of `delay_levels` with respect to the levels and the learned delays."""
    if _fits_gpu(grad):
        from audiozen_plugins.kernels import sigma_delta_triton  # imports Triton

        return sigma_delta_triton.delay_levels_backward(grad, delayed, whole_delay)
    if can_compute(grad):
        grad_levels = torch.empty_like(grad, memory_format=torch.contiguous_format)
        grad_delay = grad.new_empty(len(grad))
        _delay_levels_backward(*to_read(grad, delayed, whole_delay), *to_write(grad_levels, grad_delay))
        return grad_levels, grad_delay
    return _plain_delay_gradient(grad, delayed, whole_delay)


def _plain_delay_gradient(grad: Tensor, delayed: Tensor, whole_delay: Tensor) -> tuple[Tensor, Tensor]:
    # If a level rises, a longer delay lowers it: d level / d delay is minus the change of the level since the last
    # frame.
    rise = torch.sub(delayed[:, 1:], delayed[:, :-1]).mul_(grad[:, 1:]).sum(dim=(1, 2))
    rise += torch.sum(delayed[:, 0] * grad[:, 0], dim=1)
    return _shift_rows(grad, -whole_delay), -rise


_PART = 64


@cpu_kernel(fastmath={"reassoc"})
def _delay_levels_backward(grad: Any, delayed: Any, whole_delay: Any, grad_levels: Any, grad_delay: Any) -> None:
    """Writes `grad_levels` and `grad_delay`.

    With `reassoc`, the compiler may change the order of additions, so it can use vectors for the sums of short parts.
    The sums of the parts are then added in float64.
    """
    channels, frames, batch = grad.shape
    zero = np.zeros(1, grad.dtype)[0]
    for c in range(channels):
        size = frames * batch
        late = (whole_delay[c] if 0 <= whole_delay[c] < frames else frames) * batch
        grads, levels, target = grad[c].reshape(-1), delayed[c].reshape(-1), grad_levels[c].reshape(-1)
        # The delayed level is zero before the frame `late`, so it does not change there.
        rise = np.float64(0)
        for i in range(late, min(late + batch, size)):
            rise += levels[i] * grads[i]
        start = late + batch
        for _ in range((size - start) // _PART):
            before, now, part_grads = levels[start - batch :], levels[start:], grads[start:]
            part = zero
            for i in range(_PART):  # a constant number of rounds, so that the compiler unrolls the loop
                part += (now[i] - before[i]) * part_grads[i]
            rise += part
            start += _PART
        part = zero
        for i in range(start, size):
            part += (levels[i] - levels[i - batch]) * grads[i]
        rise += part
        target[: size - late] = grads[late:]
        target[size - late :] = zero
        grad_delay[c] = -rise


def _keep_delayed(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(output, inputs[2])


def _delay_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    # `delay_levels_backward` has no gradient, so a second derivative needs the plain form.
    backward = _plain_delay_gradient if torch.is_grad_enabled() else delay_levels_backward
    return (*backward(grad, *ctx.saved_tensors), None)


differentiable("delay_levels", keep=_keep_delayed, backward=_delay_gradient)
