"""What making an item costs in the main process, on top of the data set itself: the loader of AudioZEN and torch's own.

Both make the same batches of 16 from the same data set, with the same collate function. An item draws a random gain
from each of the three generators, and scales a quarter of a second of audio with it. Our loader seeds the generators
before each item, names the item in errors, and gives the run its own generators back after each batch; torch's does
none of this.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from audiozen_core.data.loader import BatchLoader
from audiozen_plugins.dataset.collate import pad_collate
from benchmarks.measuring import Goal, Row, compare, cpu_seconds

ITEMS, BATCH, SAMPLES = 2048, 16, 4000


class Gained(Dataset[dict[str, Any]]):
    """A quarter of a second of noise, scaled at random."""

    def __init__(self) -> None:
        self.wave = 0.1 * torch.randn(SAMPLES)

    def __len__(self) -> int:
        return ITEMS

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns a sample as the data sets of enhancement do."""
        gain = random.random() + np.random.rand() + torch.rand(()).item()
        return {"id": str(index), "noisy": gain * self.wave, "clean": self.wave, "snr": gain, "sr": 16000}


def rows(rounds: int = 15) -> list[Row]:
    """One row."""
    torch.set_num_threads(1)
    data = Gained()
    ours = BatchLoader(data, batch_size=BATCH, collate_fn=pad_collate)
    theirs = DataLoader(data, batch_size=BATCH, collate_fn=pad_collate)

    def read(batches: Iterable[Any]) -> None:
        for _ in batches:
            pass

    return [
        compare(
            f"an item from the loader, no workers, batches of {BATCH}",
            lambda: cpu_seconds(lambda: read(ours.epoch(1))),
            {"torch's DataLoader, which does not seed": lambda: cpu_seconds(lambda: read(theirs))},
            unit="µs of CPU",
            scale=1e6 / ITEMS,
            goal=Goal("at most", 30, "difference"),
            rounds=rounds,
        )
    ]
