"""Measures how much longer a training step takes if the network gets copies of its inputs.

    python benchmarks/input_copies.py --rounds 40

AudioZEN copies the inputs, so that a network can't change the batch. Steps with and without copies are measured in
turn, in one process, on one thread. The ratio of their CPU times is computed for each round, and the median is printed.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from audiozen_core.trainer.input_copies import copy_inputs
from audiozen_plugins.model.sdnn import SDNN

RATE = 16000


class Small(nn.Module):
    """A filter of 33 taps for waveforms. It is about the smallest network that is worth training."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Conv1d(1, 1, 33, padding="same")

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        """Filters waveforms [batch, time]."""
        filtered: torch.Tensor = self.filter(noisy.unsqueeze(1)).squeeze(1)
        return filtered


def step(network: nn.Module, batch: torch.Tensor) -> Callable[[], None]:
    """Returns a function that makes one training step: forward pass, backward pass, and a step of Adam."""
    optimizer = torch.optim.Adam(network.parameters())

    def train() -> None:
        optimizer.zero_grad()
        network(batch).abs().mean().backward()
        optimizer.step()

    return train


def networks(seconds: float, batch: int) -> dict[str, tuple[Callable[[], nn.Module], torch.Tensor]]:
    """Returns the networks by name: for each, a function that makes it, and a batch of inputs."""
    wave = torch.randn(batch, round(seconds * RATE))
    magnitude = torch.stft(wave, 512, 128, window=torch.hann_window(512), return_complex=True).abs()
    return {"SDNN": (SDNN, magnitude), "one filter": (Small, wave)}


def timed(function: Callable[[], None]) -> float:
    """Returns the CPU time of one call in seconds. Other processes hardly affect it."""
    started = time.process_time()
    function()
    return time.process_time() - started


def main() -> None:
    """Prints the ratio for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    for name, (make, batch) in networks(options.seconds, options.batch).items():
        plain = make()
        copying = copy.deepcopy(plain)
        copy_inputs(copying)
        steps = step(plain, batch), step(copying, batch)
        for warm_up in steps * 3:
            warm_up()
        pairs = []
        for count in range(options.rounds):
            # The order changes from round to round.
            first, second = (timed(each) for each in (steps if count % 2 == 0 else steps[::-1]))
            pairs.append((first, second) if count % 2 == 0 else (second, first))
        ratio = statistics.median(with_copies / without for without, with_copies in pairs)
        print(f"{name}: {1e3 * statistics.median(each[0] for each in pairs):.1f} ms a step, with copies x {ratio:.4f}")


if __name__ == "__main__":
    main()
