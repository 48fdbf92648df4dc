"""The operators of a gated spiking layer: one computes all frames forwards, and the other all frames backwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from audiozen_plugins.kernels import on_gpu
from audiozen_plugins.kernels.on_cpu import can_compute, cpu_kernel, to_read, to_write
from audiozen_plugins.kernels.operators import differentiable, operator
from audiozen_plugins.kernels.spiking_trace import MOMENTUM, SpikingTrace, empty_trace


def has_kernel(x: Tensor) -> bool:
    """Whether `gated_spikes` can be used for tensors like x. Otherwise the layer loops over its frames in Python.

    A counter of operations also gets the Python loop, because it must see the matrix product of each frame.
    """
    counted = not torch.compiler.is_compiling() and is_in_torch_dispatch_mode()
    on_device = x.dtype in (torch.float32, torch.float64) and on_gpu.is_available(x.device)
    return not counted and (on_device or can_compute(x))


@operator(
    "gated_spikes(Tensor products, Tensor weight, Tensor gate_bias, Tensor bias, Tensor[] norm, bool training,"
    " float eps, Tensor potential, Tensor spike, bool remember)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    shapes=lambda products, weight, gate_bias, bias, norm, training, eps, potential, spike, remember: empty_trace(
        products, weight, norm, training, potential, remember
    ),
)
def gated_spikes(
    products: Tensor,
    weight: Tensor,
    gate_bias: Tensor,
    bias: Tensor,
    norm: list[Tensor],
    training: bool,
    eps: float,
    potential: Tensor,
    spike: Tensor,
    remember: bool,
) -> SpikingTrace:
    """Runs a gated spiking layer over all frames.

    On a CPU, PyTorch computes the products, the sigmoid and the batch norm. So all numbers are rounded as in the plain
    form, and the spikes are exactly the same. One additional or missing spike would change the rest of a clip.

    Args:
        products: the inputs times their weights [frames, batch, rows]. There is one row for each neuron; if the gates
            have their own weights, there are twice as many rows, and the rows of the gates come first.
        weight: the recurrent weights [rows, neurons].
        gate_bias: the bias of the gates [neurons].
        bias: the bias of the potentials [neurons].
        norm: weight, bias, running mean and running variance of the batch norm, each [neurons]; empty without a batch
            norm.
        training: whether the batch norm uses the mean and variance of each frame.
        eps: the number that the batch norm adds to the variance.
        potential: the potentials [batch, neurons] before the first frame.
        spike: the spikes [batch, neurons] before the first frame.
        remember: whether to keep what the backward pass needs. If it is False, the trace has the spikes of all frames,
            but all other values only for the last frame.

    Returns:
        A `SpikingTrace`, as a plain tuple.
    """
    trace = empty_trace(products, weight, norm, training, potential, remember)
    trace.potentials[0] = potential
    for new, old in zip(trace[6:], norm[2:], strict=False):
        new.copy_(old)
    if on_gpu.is_available(products.device):
        from audiozen_plugins.kernels import gated_spiking_triton  # imports Triton

        gated_spiking_triton.forward(trace, products, weight, gate_bias, bias, norm[:2], training, eps, spike)
    else:
        _forward(trace, products, weight, gate_bias, bias, norm[:2], training, eps, spike)
    return trace


def _forward(
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
    batch_norm: Any = torch.native_batch_norm  # its stub has no `out`
    remember = len(trace.potentials) > len(trace.gates)
    recurrent, neurons = weight.t(), len(bias)
    mixed = torch.empty_like(trace.potentials[:1]) if norm else trace.potentials
    arrays = *to_write(trace.inputs, trace.gates, trace.potentials), *to_read(bias), *to_write(mixed)
    inputs, gates, potentials = trace.inputs.unbind(), trace.gates.unbind(), trace.potentials.unbind()
    to_gates = trace.inputs[..., :neurons].unbind()
    # `native_batch_norm` needs output tensors for the statistics of a frame even if it uses the running statistics.
    unused = (products.new_empty(0), products.new_empty(0))
    measured = list(zip(trace.means.unbind(), trace.scales.unbind(), strict=True))
    for frame, (now, sent) in enumerate(zip(products.unbind(), trace.spikes.unbind(), strict=True)):
        slot, after = (frame, frame + 1) if remember else (0, 0)
        torch.addmm(now, spike, recurrent, out=inputs[slot])
        torch.add(to_gates[slot], gate_bias, out=gates[slot])
        torch.sigmoid(gates[slot], out=gates[slot])
        _mix(*arrays, slot, 0 if norm else after)
        if norm:
            batch_norm(
                mixed[0],
                *norm,
                trace.running_mean,
                trace.running_var,
                training,
                MOMENTUM,
                eps,
                out=(potentials[after], *(measured[slot] if measured else unused)),
            )
        torch.ge(potentials[after], 0, out=sent)
        spike = sent


@cpu_kernel()
def _mix(inputs: Any, gates: Any, potentials: Any, bias: Any, mixed: Any, slot: int, target: int) -> None:
    """Mixes the last potentials with the new inputs. Like PyTorch, it rounds after each operation."""
    _, batch, neurons = gates.shape
    first = inputs.shape[2] - neurons
    one = np.ones(1, gates.dtype)[0]
    for b in range(batch):
        for i in range(neurons):
            gate = gates[slot, b, i]
            mixed[target, b, i] = gate * potentials[slot, b, i] + (one - gate) * (inputs[slot, b, first + i] + bias[i])


@operator(
    "gated_spikes_backward(Tensor grad, Tensor spikes, Tensor potentials, Tensor inputs, Tensor gates, Tensor means,"
    " Tensor scales, Tensor weight, Tensor bias, Tensor[] norm, bool training, Tensor spike)"
    " -> (Tensor, Tensor, Tensor)",
    shapes=lambda grad, spikes, potentials, inputs, gates, means, scales, weight, bias, norm, training, spike: (
        torch.empty_like(inputs, memory_format=torch.contiguous_format),
        torch.empty_like(weight, memory_format=torch.contiguous_format),
        bias.new_empty(4, len(bias)),
    ),
)
def gated_spikes_backward(
    grad: Tensor,
    spikes: Tensor,
    potentials: Tensor,
    inputs: Tensor,
    gates: Tensor,
    means: Tensor,
    scales: Tensor,
    weight: Tensor,
    bias: Tensor,
    norm: list[Tensor],
    training: bool,
    spike: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Runs backwards through all frames of `gated_spikes`.

    Args:
        grad: the gradient with respect to the spikes.
        spikes: see `SpikingTrace`.
        potentials: see `SpikingTrace`.
        inputs: see `SpikingTrace`.
        gates: see `SpikingTrace`.
        means: see `SpikingTrace`. If the batch norm uses its running mean, this is the running mean [1, neurons].
        scales: see `SpikingTrace`. If the batch norm uses its running variance, this is the factor for all frames
            [1, neurons].
        weight: see `gated_spikes`.
        bias: see `gated_spikes`.
        norm: the weight of the batch norm; empty without a batch norm.
        training: see `gated_spikes`.
        spike: see `gated_spikes`.

    Returns:
        Three gradients. The first is for the inputs, and also for the products. The second is for the recurrent
        weights. The third stacks the gradients for the bias of the gates, the bias of the potentials, and the weight
        and the bias of the batch norm.
    """
    grad_inputs = torch.empty_like(inputs, memory_format=torch.contiguous_format)
    saved = (potentials, inputs, gates, means, scales, bias, norm, training)
    if on_gpu.is_available(grad.device):
        from audiozen_plugins.kernels import gated_spiking_triton  # imports Triton

        sums = gated_spiking_triton.backward(grad, weight, *saved, grad_inputs)
    else:
        sums = _backward(grad, weight, *saved, grad_inputs)
    grad_weight = grad_inputs[0].t() @ spike
    grad_weight.addmm_(grad_inputs[1:].flatten(0, 1).t(), spikes[:-1].flatten(0, 1))
    return grad_inputs, grad_weight, sums.to(bias.dtype)


def _backward(
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
    frames = len(grad)
    sums = torch.zeros(4, len(bias), dtype=torch.float64)
    grad_spike, carry = grad[-1].clone(memory_format=torch.contiguous_format), torch.zeros_like(gates[0])
    saved = (potentials, inputs, gates, means, scales, bias, *(norm or [bias]))
    arrays = *to_read(*saved), *to_write(grad_spike, carry, grad_inputs, sums)
    grads, later = grad.unbind(), grad_inputs.unbind()
    for frame in reversed(range(frames)):
        if frame + 1 < frames:
            torch.addmm(grads[frame], later[frame + 1], weight, out=grad_spike)
        _frame_backward(*arrays, frame, bool(norm), training)
    return sums


@cpu_kernel()
def _frame_backward(  # noqa: PLR0912 - many short loops
    potentials: Any,
    inputs: Any,
    gates: Any,
    means: Any,
    scales: Any,
    bias: Any,
    norm_weight: Any,
    grad_spike: Any,
    carry: Any,
    grad_inputs: Any,
    sums: Any,
    frame: int,
    has_norm: bool,
    training: bool,
) -> None:
    """Goes back through one frame. `carry` becomes the gradient of the potentials before this frame.

    Each loop writes to one array only. If a loop wrote to several arrays, the compiler could not rule out that they
    overlap, and would not vectorise the loop.
    """
    _, batch, neurons = gates.shape
    first = inputs.shape[2] - neurons
    one = np.ones(1, gates.dtype)[0]
    zero = one - one
    before, after, gate, row = potentials[frame], potentials[frame + 1], gates[frame], inputs[frame]
    other = np.empty((batch, neurons), gates.dtype)
    total, total_other = np.zeros(neurons, gates.dtype), np.zeros(neurons, gates.dtype)
    for b in range(batch):
        for i in range(neurons):
            slope = one - abs(after[b, i])
            grad_spike[b, i] = grad_spike[b, i] * (zero if slope < zero else slope) + carry[b, i]
    if has_norm:
        mean, scale = means[frame if training else 0], scales[frame if training else 0]
        for b in range(batch):
            for i in range(neurons):
                mixed = gate[b, i] * before[b, i] + (one - gate[b, i]) * (row[b, first + i] + bias[i])
                other[b, i] = (mixed - mean[i]) * scale[i]
        for b in range(batch):
            for i in range(neurons):
                total[i] += grad_spike[b, i]
            for i in range(neurons):
                total_other[i] += grad_spike[b, i] * other[b, i]
        for i in range(neurons):
            sums[2, i] += total_other[i]
        for i in range(neurons):
            sums[3, i] += total[i]
        for i in range(neurons):
            total[i] = total[i] / batch if training else zero
        for i in range(neurons):
            total_other[i] = total_other[i] / batch if training else zero
        for b in range(batch):
            for i in range(neurons):
                centred = grad_spike[b, i] - total[i] - other[b, i] * total_other[i]
                grad_spike[b, i] = centred * (scale[i] * norm_weight[i])
    for b in range(batch):
        for i in range(neurons):
            change = before[b, i] - (row[b, first + i] + bias[i])
            other[b, i] = grad_spike[b, i] * change * (gate[b, i] * (one - gate[b, i]))
        for i in range(neurons):
            carry[b, i] = grad_spike[b, i] * gate[b, i]
        for i in range(neurons):
            grad_spike[b, i] *= one - gate[b, i]
    # `other` is now the gradient of the gates before their sigmoid, and `grad_spike` is the gradient of the new inputs.
    total[:] = zero
    total_other[:] = zero
    for b in range(batch):
        for i in range(neurons):
            total[i] += other[b, i]
        for i in range(neurons):
            total_other[i] += grad_spike[b, i]
        if first:
            for i in range(neurons):
                grad_inputs[frame, b, i] = other[b, i]
            for i in range(neurons):
                grad_inputs[frame, b, first + i] = grad_spike[b, i]
        else:
            for i in range(neurons):
                grad_inputs[frame, b, i] = other[b, i] + grad_spike[b, i]
    for i in range(neurons):
        sums[0, i] += total[i]
    for i in range(neurons):
        sums[1, i] += total_other[i]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, weight, _, bias, norm, training, eps, _, spike, _ = inputs
    trace = SpikingTrace(*output)
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)  # otherwise autograd makes zeros for missing gradients
    ctx.training, ctx.norms = training, len(norm)
    measured = (trace.means, trace.scales)
    if norm and not training:
        measured = (norm[2][None], (norm[3] + eps).rsqrt()[None])
    ctx.save_for_backward(*trace[:4], *measured, weight, bias, spike, *norm[:1])


def _gradient(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
    if grads[0] is None:  # nothing that depends on the spikes has a gradient
        return *[None] * 4, [None] * ctx.norms, *[None] * 5
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the kernel of a gated spiking layer has no second derivative: train without `create_graph=True`, or run"
            " the forward pass in `audiozen_plugins.kernels.plain_forms.without_kernels()`"
        )
    spikes, potentials, inputs, gates, means, scales, weight, bias, spike, *norm = ctx.saved_tensors
    to_products, to_weight, sums = gated_spikes_backward(
        grads[0], spikes, potentials, inputs, gates, means, scales, weight, bias, norm, ctx.training, spike
    )
    to_norm = [sums[2], sums[3], None, None] if norm else []
    return to_products, to_weight, sums[0], sums[1], to_norm, None, None, None, None, None


differentiable("gated_spikes", keep=_keep, backward=_gradient)
