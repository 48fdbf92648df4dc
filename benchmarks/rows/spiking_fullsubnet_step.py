"""Compares a training step of Spiking-FullSubNet with and without its kernel.

The peer is the same network without the kernel. Its layers are a Python loop over the frames, as in the code of the
authors. Both outputs are compared before anything is measured.
"""

from __future__ import annotations

import torch

from audiozen_plugins.kernels.plain_forms import without_kernels
from audiozen_plugins.model.spiking_fullsubnet import SpikingFullSubNet
from benchmarks.measuring import Goal, Row, compare, cpu_seconds

BATCH, FRAMES = 8, 188  # 1.5 s


def rows(rounds: int = 9) -> list[Row]:
    """Measures one row."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    network = SpikingFullSubNet()
    spectrum = torch.randn(BATCH, network.num_freqs + 1, FRAMES, dtype=torch.complex64)

    def step() -> None:
        network.zero_grad()
        torch.view_as_real(network(spectrum)).square().mean().backward()

    def plain() -> float:
        with without_kernels():
            return cpu_seconds(step)

    with torch.no_grad():
        fast = network(spectrum)
        with without_kernels():
            torch.testing.assert_close(network(spectrum), fast, rtol=1e-4, atol=1e-5)
    return [
        compare(
            f"Spiking-FullSubNet, step with {BATCH} clips",
            lambda: cpu_seconds(step),
            {"our plain form, frame by frame": plain},
            unit="ms of CPU",
            scale=1000,
            goal=Goal("at most", 0.5),
            rounds=rounds,
        )
    ]
