"""Compares the data loader of AudioZEN with PyTorch's `DataLoader`, without worker processes.

Both make batches of 16 items from the same data set, with the same collate function. For an item, the data set draws a
random number from each of the generators of Python, NumPy and torch, and scales a quarter of a second of audio with
their sum. AudioZEN's loader also seeds the generators before each item, names the item in errors, and restores the
state of the generators after each batch. PyTorch's loader does none of this.
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
    """A data set whose items are a quarter of a second of noise, scaled at random."""

    def __init__(self) -> None:
        self.wave = 0.1 * torch.randn(SAMPLES)

    def __len__(self) -> int:
        return ITEMS

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns a sample with the keys that the data sets for enhancement return."""
        gain = random.random() + np.random.rand() + torch.rand(()).item()
        return {"id": str(index), "noisy": gain * self.wave, "clean": self.wave, "snr": gain, "sr": 16000}


def rows(rounds: int = 15) -> list[Row]:
    """Measures one row."""
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
