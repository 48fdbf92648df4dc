"""A training step of the sigma-delta network, beside the three matrix products that it can't do without.

The peer has the same matrix products with the same shapes, forward and backward, and nothing else.
"""

from __future__ import annotations

import torch
from torch import nn

from audiozen_plugins.model.sdnn import SDNN
from benchmarks.measuring import Goal, Row, compare, cpu_seconds

BATCH, FRAMES, NEURONS = 4, 1000, 512


def rows(rounds: int = 15) -> list[Row]:
    """One row."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    network = SDNN()
    magnitude = torch.rand(BATCH, network.num_freqs, FRAMES)
    products = nn.Sequential(
        nn.Linear(network.num_freqs, NEURONS), nn.Linear(NEURONS, NEURONS), nn.Linear(NEURONS, network.num_freqs)
    )
    frames = magnitude.transpose(1, 2).contiguous()

    def step(module: nn.Module, inputs: torch.Tensor) -> None:
        module.zero_grad()
        module(inputs).sum().backward()

    return [
        compare(
            f"SDNN training step, B{BATCH} T{FRAMES}",
            lambda: cpu_seconds(lambda: step(network, magnitude)),
            {"its matrix products": lambda: cpu_seconds(lambda: step(products, frames))},
            unit="ms of CPU",
            scale=1000,
            goal=Goal("at most", 1.5),
            rounds=rounds,
        )
    ]
