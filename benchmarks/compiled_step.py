"""Measures a training step of a network on a CPU, with and without `torch.compile` or the memory format channels-last.

`python -m benchmarks.compiled_step crn` takes seconds. With `gtcrn` instead of `crn`, compiling takes many minutes.
With `--channels-last`, nothing is compiled.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn

from audiozen_plugins.model.crn import CRN
from audiozen_plugins.model.gtcrn import GTCRN
from audiozen_plugins.model.ul_unas import ULUNAS
from benchmarks.measuring import cpu_seconds

FRAMES = 94
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "crn": (CRN, (8, 2, 257, FRAMES)),
    "gtcrn": (GTCRN, (8, 257, FRAMES, 2)),
    "ul_unas": (ULUNAS, (8, 257, FRAMES)),
}
STEPS = 8


def step_seconds(network: nn.Module, batch: Tensor) -> list[float]:
    """Returns the CPU times of `STEPS` steps in seconds. The first steps of a compiled network include compiling it."""
    optimizer = torch.optim.Adam(network.parameters())

    def step() -> None:
        optimizer.zero_grad()
        network(batch).abs().square().mean().backward()
        optimizer.step()

    return [cpu_seconds(step) for _ in range(STEPS)]


def main() -> None:
    """Prints the CPU time of the fastest step without and with the change, and of the first step with the change."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=sorted(NETWORKS))
    parser.add_argument(
        "--any-size", action="store_true", help="compile with torch's own default for sizes that change"
    )
    parser.add_argument("--channels-last", action="store_true", help="convert the weights to channels-last instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    make, shape = NETWORKS[options.network]
    batch = torch.randn(shape)
    plain = step_seconds(make(), batch)
    changed: nn.Module = make()
    if options.channels_last:
        changed = changed.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    else:
        changed = torch.compile(changed, dynamic=None if options.any_size else False)  # type: ignore[assignment]
    times = step_seconds(changed, batch)
    what = "channels-last" if options.channels_last else "compiled"
    print(f"plain: {min(plain):.4f} s; {what}: {min(times):.4f} s, and {times[0]:.1f} s for the first step")


if __name__ == "__main__":
    main()
