"""The trace of a gated spiking layer: its results, and the values of each frame that the backward pass needs."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

MOMENTUM = 0.1  # the momentum of the batch norm's running statistics


class SpikingTrace(NamedTuple):
    """The values that `gated_spikes` returns. Only the spikes have a gradient.

    Attributes:
        spikes: the spikes [frames, batch, neurons].
        potentials: the potentials before the first frame and after each frame [1 + frames, batch, neurons].
        inputs: the weighted inputs of the gates and the potentials, without their biases [frames, batch, rows]. `rows`
            is explained in `gated_spikes`.
        gates: the gates [frames, batch, neurons].
        means: the means that the batch norm subtracted from each frame [frames, neurons]. It is empty if there is no
            batch norm, or if the batch norm uses its running mean.
        scales: the factors by which the batch norm multiplied each frame before it applied its weight
            [frames, neurons]. It is empty in the same cases.
        running_mean: the running mean after the last frame [neurons]; empty without a batch norm.
        running_var: the running variance after the last frame [neurons]; empty without a batch norm.
    """

    spikes: Tensor
    potentials: Tensor
    inputs: Tensor
    gates: Tensor
    means: Tensor
    scales: Tensor
    running_mean: Tensor
    running_var: Tensor


def empty_trace(
    products: Tensor, weight: Tensor, norm: list[Tensor], training: bool, potential: Tensor, remember: bool
) -> SpikingTrace:
    """Allocates a trace for the arguments of `gated_spikes`."""
    frames, (batch, neurons) = len(products), potential.shape
    kept = frames if remember else 1
    measured = kept if norm and training else 0
    return SpikingTrace(
        products.new_empty(frames, batch, neurons),
        products.new_empty(kept + remember, batch, neurons),
        products.new_empty(kept, batch, len(weight)),
        products.new_empty(kept, batch, neurons),
        products.new_empty(measured, neurons),
        products.new_empty(measured, neurons),
        products.new_empty(neurons if norm else 0),
        products.new_empty(neurons if norm else 0),
    )
