"""Compares a training step of the sigma-delta network with its three matrix products alone.

The peer computes matrix products with the same shapes and the same layout, features × (frames × batch), forwards and
backwards. It computes nothing else. A row without a goal shows the bound: the products with one pass over the input and
over the result of each, forwards and backwards. The layers before and after a product can't do with less.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch

from audiozen_plugins.model.sdnn import SDNN
from benchmarks.measuring import Goal, Row, compare, cpu_seconds

BATCH, FRAMES, NEURONS = 4, 1000, 512


def rows(rounds: int = 15) -> list[Row]:
    """Measures the row and the bound."""
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

    def products_and_passes() -> None:
        output = frames
        for weight in weights:
            weight.grad = None
            output = 1.0 * (weight @ (1.0 * output))
        output.sum().backward()

    def row(what: str, ours: Callable[[], None], goal: Goal | None) -> Row:
        peers = {"its matrix products": lambda: cpu_seconds(products)}
        what = f"{what}, {BATCH} × {FRAMES} frames"
        return compare(what, lambda: cpu_seconds(ours), peers, unit="ms of CPU", scale=1000, goal=goal, rounds=rounds)

    return [
        row("SDNN, forward and backward", step, Goal("at most", 1.5)),
        row("SDNN's matrix products, with a pass before and after each", products_and_passes, None),
    ]
