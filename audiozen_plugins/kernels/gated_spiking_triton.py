"""Triton kernels of a gated spiking layer: see `gated_spiking`. Importing this module requires Triton.

For each frame, PyTorch computes the matrix product with the recurrent weights, and one kernel computes the rest.
"""

# Triton compiles these functions, and its types are not Python's.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: ANN001, ANN202, N803, PLR0915

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from audiozen_plugins.kernels.spiking_trace import MOMENTUM, SpikingTrace

_NEURONS = 16
_BATCH = 64


@triton.jit
def _sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def _forward_frame(
    inputs,
    before,
    after,
    gates,
    spikes,
    gate_bias,
    bias,
    norm_weight,
    norm_bias,
    running_mean,
    running_var,
    means,
    scales,
    eps,
    batch,
    neurons,
    first,
    MOMENTUM: tl.constexpr,
    HAS_NORM: tl.constexpr,
    TRAINING: tl.constexpr,
    BATCH: tl.constexpr,
    NEURONS: tl.constexpr,
):
    """Each program computes one frame of `NEURONS` neurons for the whole batch, `BATCH` clips at a time."""
    neuron = tl.program_id(0) * NEURONS + tl.arange(0, NEURONS)
    exists = neuron < neurons
    at_gate = tl.load(gate_bias + neuron, exists)
    at_potential = tl.load(bias + neuron, exists)
    total = tl.zeros((NEURONS,), at_gate.dtype)
    for start in range(0, batch, BATCH):
        row = start + tl.arange(0, BATCH)
        inside = (row < batch)[:, None] & exists[None, :]
        place = row[:, None] * neurons + neuron[None, :]
        source = row[:, None] * (first + neurons) + neuron[None, :]
        gate = _sigmoid(tl.load(inputs + source, inside, other=0) + at_gate[None, :])
        new = tl.load(inputs + source + first, inside, other=0) + at_potential[None, :]
        mixed = gate * tl.load(before + place, inside, other=0) + (1 - gate) * new
        tl.store(gates + place, gate, inside)
        tl.store(after + place, mixed, inside)
        if not HAS_NORM:
            tl.store(spikes + place, tl.where(mixed >= 0, 1.0, 0.0).to(mixed.dtype), inside)
        total += tl.sum(tl.where(inside, mixed, tl.zeros_like(mixed)), 0)
    if HAS_NORM:
        if TRAINING:
            mean = total / batch
            tl.debug_barrier()
            squares = tl.zeros((NEURONS,), at_gate.dtype)
            for start in range(0, batch, BATCH):
                row = start + tl.arange(0, BATCH)
                inside = (row < batch)[:, None] & exists[None, :]
                place = row[:, None] * neurons + neuron[None, :]
                centred = tl.load(after + place, inside, other=0) - mean[None, :]
                squares += tl.sum(tl.where(inside, centred * centred, tl.zeros_like(centred)), 0)
            scale = 1 / tl.sqrt(squares / batch + tl.load(eps))
            old_mean = tl.load(running_mean + neuron, exists)
            old_var = tl.load(running_var + neuron, exists)
            tl.store(running_mean + neuron, (1 - MOMENTUM) * old_mean + MOMENTUM * mean, exists)
            tl.store(running_var + neuron, (1 - MOMENTUM) * old_var + MOMENTUM * (squares / (batch - 1)), exists)
            tl.store(means + neuron, mean, exists)
            tl.store(scales + neuron, scale, exists)
        else:
            mean = tl.load(running_mean + neuron, exists)
            scale = 1 / tl.sqrt(tl.load(running_var + neuron, exists) + tl.load(eps))
        # A thread may read here what another thread wrote above.
        tl.debug_barrier()
        factor = scale * tl.load(norm_weight + neuron, exists)
        shift = tl.load(norm_bias + neuron, exists)
        for start in range(0, batch, BATCH):
            row = start + tl.arange(0, BATCH)
            inside = (row < batch)[:, None] & exists[None, :]
            place = row[:, None] * neurons + neuron[None, :]
            normal = (tl.load(after + place, inside, other=0) - mean[None, :]) * factor[None, :] + shift[None, :]
            tl.store(after + place, normal, inside)
            tl.store(spikes + place, tl.where(normal >= 0, 1.0, 0.0).to(normal.dtype), inside)


def forward(
    trace: SpikingTrace,
    products: Tensor,
    weight: Tensor,
    gate_bias: Tensor,
    bias: Tensor,
    norm: list[Tensor],
    training: bool,
    eps: float,
    spike: Tensor,
) -> None:
    """Fills the trace that `gated_spiking.gated_spikes` returns."""
    remember = len(trace.potentials) > len(trace.gates)
    (batch, neurons), rows = spike.shape, len(weight)
    recurrent = weight.t()
    inputs, gates, potentials = trace.inputs.unbind(), trace.gates.unbind(), trace.potentials.unbind()
    unused = (trace.means, trace.scales)  # used only if both are empty
    measured = list(zip(trace.means.unbind(), trace.scales.unbind(), strict=True))
    norm = [each.contiguous() for each in norm] or [bias, bias]
    # Triton would round a Python number to float32. A tensor keeps its precision.
    added = products.new_full((1,), eps)
    gate_bias, bias = gate_bias.contiguous(), bias.contiguous()
    grid = (triton.cdiv(neurons, _NEURONS),)
    for frame, (now, sent) in enumerate(zip(products.unbind(), trace.spikes.unbind(), strict=True)):
        slot, after = (frame, frame + 1) if remember else (0, 0)
        torch.addmm(now, spike, recurrent, out=inputs[slot])
        _forward_frame[grid](
            inputs[slot], potentials[slot], potentials[after], gates[slot], sent, gate_bias, bias, *norm,
            trace.running_mean, trace.running_var, *(measured[slot] if measured else unused), added, batch, neurons,
            rows - neurons, MOMENTUM=MOMENTUM, HAS_NORM=trace.running_mean.numel() > 0, TRAINING=training,
            BATCH=_BATCH, NEURONS=_NEURONS,
        )  # fmt: skip
        spike = sent


@triton.jit
def _backward_frame(
    grad_spike,
    before,
    after,
    inputs,
    gates,
    means,
    scales,
    bias,
    norm_weight,
    carry,
    grad_inputs,
    sums,
    batch,
    neurons,
    first,
    HAS_NORM: tl.constexpr,
    TRAINING: tl.constexpr,
    BATCH: tl.constexpr,
    NEURONS: tl.constexpr,
):
    """Each program goes back through one frame of `NEURONS` neurons for the whole batch, `BATCH` clips at a time."""
    neuron = tl.program_id(0) * NEURONS + tl.arange(0, NEURONS)
    exists = neuron < neurons
    at_potential = tl.load(bias + neuron, exists)
    total = tl.zeros((NEURONS,), at_potential.dtype)
    total_normal = tl.zeros((NEURONS,), at_potential.dtype)
    mean = tl.zeros((NEURONS,), at_potential.dtype)
    scale = tl.zeros((NEURONS,), at_potential.dtype)
    factor = tl.zeros((NEURONS,), at_potential.dtype) + 1
    if HAS_NORM:
        mean = tl.load(means + neuron, exists)
        scale = tl.load(scales + neuron, exists)
        factor = scale * tl.load(norm_weight + neuron, exists)
        for start in range(0, batch, BATCH):
            row = start + tl.arange(0, BATCH)
            inside = (row < batch)[:, None] & exists[None, :]
            place = row[:, None] * neurons + neuron[None, :]
            source = row[:, None] * (first + neurons) + neuron[None, :] + first
            slope = 1 - tl.abs(tl.load(after + place, inside, other=0))
            grad = tl.load(grad_spike + place, inside, other=0) * tl.where(slope < 0, tl.zeros_like(slope), slope)
            grad += tl.load(carry + place, inside, other=0)
            gate = tl.load(gates + place, inside, other=0)
            new = tl.load(inputs + source, inside, other=0) + at_potential[None, :]
            mixed = gate * tl.load(before + place, inside, other=0) + (1 - gate) * new
            normal = (mixed - mean[None, :]) * scale[None, :]
            grad = tl.where(inside, grad, tl.zeros_like(grad))
            total += tl.sum(grad, 0)
            total_normal += tl.sum(grad * normal, 0)
        tl.store(sums + 2 * neurons + neuron, tl.load(sums + 2 * neurons + neuron, exists) + total_normal, exists)
        tl.store(sums + 3 * neurons + neuron, tl.load(sums + 3 * neurons + neuron, exists) + total, exists)
        total = total / batch
        total_normal = total_normal / batch
        if not TRAINING:
            total = tl.zeros_like(total)
            total_normal = tl.zeros_like(total_normal)
        tl.debug_barrier()  # before other threads write to `carry`
    total_gate = tl.zeros((NEURONS,), at_potential.dtype)
    total_new = tl.zeros((NEURONS,), at_potential.dtype)
    for start in range(0, batch, BATCH):
        row = start + tl.arange(0, BATCH)
        inside = (row < batch)[:, None] & exists[None, :]
        place = row[:, None] * neurons + neuron[None, :]
        source = row[:, None] * (first + neurons) + neuron[None, :]
        slope = 1 - tl.abs(tl.load(after + place, inside, other=0))
        grad = tl.load(grad_spike + place, inside, other=0) * tl.where(slope < 0, tl.zeros_like(slope), slope)
        grad += tl.load(carry + place, inside, other=0)
        gate = tl.load(gates + place, inside, other=0)
        old = tl.load(before + place, inside, other=0)
        new = tl.load(inputs + source + first, inside, other=0) + at_potential[None, :]
        if HAS_NORM:
            normal = (gate * old + (1 - gate) * new - mean[None, :]) * scale[None, :]
            grad = (grad - total[None, :] - normal * total_normal[None, :]) * factor[None, :]
        to_gate = grad * (old - new) * (gate * (1 - gate))
        to_new = grad * (1 - gate)
        tl.store(carry + place, grad * gate, inside)
        if first > 0:
            tl.store(grad_inputs + source, to_gate, inside)
            tl.store(grad_inputs + source + first, to_new, inside)
        else:
            tl.store(grad_inputs + source, to_gate + to_new, inside)
        total_gate += tl.sum(tl.where(inside, to_gate, tl.zeros_like(to_gate)), 0)
        total_new += tl.sum(tl.where(inside, to_new, tl.zeros_like(to_new)), 0)
    tl.store(sums + neuron, tl.load(sums + neuron, exists) + total_gate, exists)
    tl.store(sums + neurons + neuron, tl.load(sums + neurons + neuron, exists) + total_new, exists)


def backward(
    grad: Tensor,
    weight: Tensor,
    potentials: Tensor,
    inputs: Tensor,
    gates: Tensor,
    means: Tensor,
    scales: Tensor,
    bias: Tensor,
    norm: list[Tensor],
    training: bool,
    grad_inputs: Tensor,
) -> Tensor:
    """Fills `grad_inputs`, and returns the sums of `gated_spiking.gated_spikes_backward`."""
    frames, batch, neurons = gates.shape
    sums = torch.zeros(4, neurons, dtype=torch.float64, device=grad.device)
    carry, grad_spike = torch.zeros_like(gates[0]), grad[-1].contiguous()
    bias, norm_weight = bias.contiguous(), (norm or [bias])[0].contiguous()
    buffer = torch.empty_like(grad_spike)
    later = grad_inputs.unbind()
    states, rows, gate_rows, grads = potentials.unbind(), inputs.unbind(), gates.unbind(), grad.unbind()
    mean_rows, scale_rows = means.unbind() or (bias,), scales.unbind() or (bias,)
    grid = (triton.cdiv(neurons, _NEURONS),)
    for frame in reversed(range(frames)):
        if frame + 1 < frames:
            grad_spike = torch.addmm(grads[frame], later[frame + 1], weight, out=buffer)
        measured = frame if len(mean_rows) > 1 else 0  # running statistics have only one row, for all frames
        _backward_frame[grid](
            grad_spike, states[frame], states[frame + 1], rows[frame], gate_rows[frame], mean_rows[measured],
            scale_rows[measured], bias, norm_weight, carry, later[frame], sums, batch, neurons,
            inputs.shape[2] - neurons, HAS_NORM=bool(norm), TRAINING=training, BATCH=_BATCH, NEURONS=_NEURONS,
        )  # fmt: skip
    return sums
