"""Measures training on a GPU with three ways of reading the loss of each step.

    python benchmarks/reading_on_gpu.py

- `late copy` is what the trainer does: at the end of the step, it queues a copy of the loss to the CPU, and reads this
  copy eight steps later.
- `late item` reads the tensor on the GPU eight steps later.
- `at once` reads the tensor in the step itself.

The three ways are measured in turn in one process. For the last two, the script prints the median of the ratio to the
time of `late copy`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audiozen_core.data.loader import BatchLoader
from audiozen_core.hooks.lifecycle import Lifecycle
from audiozen_core.trainer import step_scalars
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.host_copy import HostCopy


class ReadsTensors:
    """Keeps the tensors on the GPU until they are read."""

    def __init__(self, scalars: Mapping[str, Any]) -> None:
        self.scalars = dict(scalars)

    def read(self) -> dict[str, float]:
        """Reads the tensors. The CPU waits until the GPU has done all work that is queued."""
        return {name: float(value) for name, value in self.scalars.items()}


class Waves(torch.utils.data.Dataset[Tensor]):
    """A data set with `size` items, all of which are the same waveform of one second."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.wave = torch.randn(1, 16000)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Tensor:
        return self.wave


class Trainer(BaseTrainer):
    """Trains the network to minimise the power of its output."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Returns the power [] of the output for waveforms [batch, 1, time]."""
        power: Tensor = self.model(batch).square().mean()
        return power


def network(channels: int, layers: int) -> nn.Module:
    """Returns a stack of 1-D convolutions."""
    hidden = [nn.Sequential(nn.Conv1d(channels, channels, 3, padding=1), nn.PReLU()) for _ in range(layers)]
    return nn.Sequential(nn.Conv1d(1, channels, 16, 8), *hidden, nn.Conv1d(channels, 1, 1))


def seconds(model: nn.Module, batches: int, batch: int, way: str) -> float:
    """Returns the duration of an epoch in seconds, with one of the three ways of reading."""
    step_scalars.HostCopy = ReadsTensors if way == "late item" else HostCopy
    optimizer = torch.optim.Adam(model.parameters())
    components = Components(
        {"": model}, optimizers={"": optimizer}, lifecycle=Lifecycle([]), folder=Path(), experiment="benchmark",
        device=torch.device("cuda"),
    )  # fmt: skip
    trainer = Trainer(components, max_epochs=1, log_interval=0)
    trainer.scalars.read_at_once = way == "at once"
    loader = BatchLoader(Waves(batches * batch), batch_size=batch, pin_memory=True)
    torch.cuda.synchronize()
    started = time.perf_counter()
    trainer.train(loader)
    torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    """Prints the ratios for several networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(torch.cuda.get_device_name())
    ways = ("late copy", "late item", "at once")
    for name, (channels, layers, batch) in {
        "8 layers of 32 channels": (32, 8, 2),
        "40 layers of 32 channels": (32, 40, 2),
        "20 layers of 256 channels": (256, 20, 16),
    }.items():
        model = network(channels, layers).cuda()
        found: dict[str, list[float]] = {way: [] for way in ways}
        seconds(model, 50, batch, ways[0])
        for count in range(options.rounds):
            for way in ways[count % 3 :] + ways[: count % 3]:
                found[way].append(seconds(model, options.batches, batch, way))
        copied = found[ways[0]]
        late, at_once = (
            statistics.median(other / base for other, base in zip(found[way], copied, strict=True)) for way in ways[1:]
        )
        step = 1e3 * statistics.median(copied) / options.batches
        print(f"{name}: {step:.2f} ms a step; late item x {late:.3f}, at once x {at_once:.3f}")


if __name__ == "__main__":
    main()
