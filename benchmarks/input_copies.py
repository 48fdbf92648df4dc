"""Times training steps whose network gets copies of its inputs against steps whose network gets the inputs themselves.

    python benchmarks/input_copies.py --rounds 40

Both take turns in one process, on one thread; the ratio of processor times is computed in each round, and the median is
printed.
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
    """One filter of 33 taps on the waveform, about the smallest network that is worth training."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Conv1d(1, 1, 33, padding="same")

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        """Filters waveforms [batch, time]."""
        filtered: torch.Tensor = self.filter(noisy.unsqueeze(1)).squeeze(1)
        return filtered


def step(network: nn.Module, batch: torch.Tensor) -> Callable[[], None]:
    """Returns one training step: forward, backward, Adam."""
    optimizer = torch.optim.Adam(network.parameters())

    def train() -> None:
        optimizer.zero_grad()
        network(batch).abs().mean().backward()
        optimizer.step()

    return train


def networks(seconds: float, batch: int) -> dict[str, tuple[Callable[[], nn.Module], torch.Tensor]]:
    """Returns the networks by name, each with a batch of inputs."""
    wave = torch.randn(batch, round(seconds * RATE))
    magnitude = torch.stft(wave, 512, 128, window=torch.hann_window(512), return_complex=True).abs()
    return {"SDNN": (SDNN, magnitude), "one filter": (Small, wave)}


def timed(function: Callable[[], None]) -> float:
    """Returns the processor time of one call in seconds, which other processes hardly disturb."""
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
            # Each goes first in every other round.
            first, second = (timed(each) for each in (steps if count % 2 == 0 else steps[::-1]))
            pairs.append((first, second) if count % 2 == 0 else (second, first))
        ratio = statistics.median(with_copies / without for without, with_copies in pairs)
        print(f"{name}: {1e3 * statistics.median(each[0] for each in pairs):.1f} ms a step, with copies x {ratio:.4f}")


if __name__ == "__main__":
    main()
