"""A training step of Spiking-FullSubNet, beside our own plain form: the network without its kernel.

Without it, autograd follows each layer frame by frame, as in the code of its authors. The outputs of both
are compared before anything is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from audiozen_plugins.kernels.on_cpu import CpuKernel
from audiozen_plugins.model.spiking_fullsubnet import SpikingFullSubNet
from benchmarks.measuring import Goal, Row, compare, cpu_seconds

BATCH, FRAMES = 8, 188  # 1.5 s


@contextmanager
def _plain_forms() -> Iterator[None]:
    is_available = CpuKernel.is_available
    CpuKernel.is_available = staticmethod(lambda: False)  # type: ignore[method-assign]
    try:
        yield
    finally:
        CpuKernel.is_available = staticmethod(is_available)  # type: ignore[method-assign]


def rows(rounds: int = 9) -> list[Row]:
    """One row."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    network = SpikingFullSubNet()
    spectrum = torch.randn(BATCH, network.num_freqs + 1, FRAMES, dtype=torch.complex64)

    def step() -> None:
        network.zero_grad()
        torch.view_as_real(network(spectrum)).square().mean().backward()

    def plain() -> float:
        with _plain_forms():
            return cpu_seconds(step)

    with torch.no_grad():
        fast = network(spectrum)
        with _plain_forms():
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
