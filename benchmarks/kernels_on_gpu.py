"""Measures training steps of spiking networks on a GPU, with their kernels and with plain PyTorch instead.

Run it as `python -m benchmarks.kernels_on_gpu`. It needs a GPU and Triton.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from torch import nn

from audiozen_plugins.kernels.plain_forms import without_kernels
from audiozen_plugins.model.sdnn import SDNN
from audiozen_plugins.model.spiking_fullsubnet import SpikingFullSubNet

ROUNDS = 7


def milliseconds(step: Callable[[], object]) -> float:
    """Returns the time of one step in milliseconds, measured with events on the GPU."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end))


def measure(name: str, network: nn.Module, given: torch.Tensor) -> None:
    """Prints the median time of a step with kernels and without kernels, and the median of their ratio."""

    def step() -> None:
        network.zero_grad()
        network(given).abs().sum().backward()

    step()
    with without_kernels():
        step()
    pairs = []
    for _ in range(ROUNDS):
        ours = milliseconds(step)
        with without_kernels():
            pairs.append((ours, milliseconds(step)))
    ours, plain = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(mine / theirs for mine, theirs in pairs)
    print(f"{name}: {ours:.1f} ms, plain {plain:.1f} ms, ratio {ratio:.3f}")


def main() -> None:
    """Measures training steps of the SDNN and of Spiking-FullSubNet."""
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    generator = torch.Generator().manual_seed(0)
    for batch in (4, 32):
        torch.manual_seed(0)
        magnitude = torch.rand(batch, 257, 1000, generator=generator).cuda()
        measure(f"SDNN, batch {batch}, 1000 frames", SDNN().cuda(), magnitude)
        spectrum = torch.randn(batch, 257, 188, dtype=torch.complex64, generator=generator).cuda()
        measure(f"Spiking-FullSubNet, batch {batch}, 188 frames", SpikingFullSubNet().cuda(), spectrum)


if __name__ == "__main__":
    main()
