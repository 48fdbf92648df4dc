"""How long a checkpoint takes, beside `torch.save` and safetensors' own writer; all wait for the disk.

    python benchmarks/checkpoint_save.py --megabytes 100 --rounds 15

The state is that of a network under Adam. The ways take turns; the ratio is taken round by round, and its median told.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from audiozen_core.checkpoint import CheckpointStore
from audiozen_core.checkpoint.writer import CheckpointWriter


def make_state(megabytes: float) -> dict[str, Any]:
    """Weights, and the two moments of each that Adam keeps."""
    side = int((megabytes * 1e6 / 4 / 3 / 8) ** 0.5)
    model = nn.Sequential(*(nn.Linear(side, side) for _ in range(8)))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, side)).square().mean().backward()
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def synced(path: Path) -> None:
    """Waits until a file is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def ways(folder: Path, state: dict[str, Any]) -> dict[str, Callable[[int], object]]:
    """What is compared: name to a function that saves once; the first is the yardstick."""
    flat = dict(state["model"])
    for index, moments in state["optimizer"]["state"].items():
        flat |= {f"{index}.{name}": moment for name, moment in moments.items()}
    store = CheckpointStore(folder / "whole")
    aside = CheckpointWriter(CheckpointStore(folder / "aside"), background=True)

    def with_torch(count: int) -> None:
        torch.save(state, folder / "state.pt")
        synced(folder / "state.pt")

    def with_safetensors(count: int) -> None:
        safetensors.torch.save_file(flat, folder / "state.safetensors")
        synced(folder / "state.safetensors")

    return {
        "torch.save, in place": with_torch,
        "safetensors.save_file, no rest": with_safetensors,
        "a checkpoint, whole or not at all": lambda count: store.save(state, epoch=count, step=count, keep=2),
        "the same aside: what the training waits": lambda count: aside.save(state, epoch=count, step=count, keep=2),
    }


def measure(saves: dict[str, Callable[[int], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round, after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in saves}
    for count in range(rounds + 1):
        for name, save in saves.items():
            start = time.perf_counter()
            save(count)
            seconds[name].append(time.perf_counter() - start)
            if "aside" in name:
                time.sleep(2 * seconds[name][-1] + 0.5)  # so that it does not slow the next one down
    return {name: each[1:] for name, each in seconds.items()}


def main() -> None:
    """Prints a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=100.0, help="of the state (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="how often (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(dir=Path.cwd()))
    try:
        seconds = measure(ways(folder, make_state(options.megabytes)), options.rounds)
    finally:
        shutil.rmtree(folder)
    yardstick = next(iter(seconds.values()))
    for name, each in seconds.items():
        ratio = statistics.median(own / other for own, other in zip(each, yardstick, strict=True))
        print(f"{name:42}{statistics.median(each):8.3f} s{ratio:8.2f} x")


if __name__ == "__main__":
    main()
