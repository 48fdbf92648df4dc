"""Compares a training step of the sigma-delta network with its three matrix products alone.

The peer computes matrix products with the same shapes and the same layout, features × (frames × batch), forwards and
backwards. It computes nothing else.
"""

from __future__ import annotations

import itertools

import torch

from audiozen_plugins.model.sdnn import SDNN
from benchmarks.measuring import Goal, Row, compare, cpu_seconds

BATCH, FRAMES, NEURONS = 4, 1000, 512


def rows(rounds: int = 15) -> list[Row]:
    """Measures one row."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    network = SDNN()
    magnitude = torch.rand(BATCH, network.num_freqs, FRAMES)
    sizes = (network.num_freqs, NEURONS, NEURONS, network.num_freqs)
    weights = [
        (torch.randn(after, before) / before**0.5).requires_grad_() for before, after in itertools.pairwise(sizes)
    ]
    frames = magnitude.permute(1, 2, 0).reshape(network.num_freqs, -1).contiguous()

    def step() -> None:
        network.zero_grad()
        network(magnitude).sum().backward()

    def products() -> None:
        output = frames
        for weight in weights:
            weight.grad = None
            output = weight @ output
        output.sum().backward()

    return [
        compare(
            f"SDNN, forward and backward, {BATCH} × {FRAMES} frames",
            lambda: cpu_seconds(step),
            {"its matrix products": lambda: cpu_seconds(products)},
            unit="ms of CPU",
            scale=1000,
            goal=Goal("at most", 1.5),
            rounds=rounds,
        )
    ]
