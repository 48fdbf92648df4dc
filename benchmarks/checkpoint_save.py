"""Times saving and loading a checkpoint against `torch.save` and safetensors' own writer; all saves wait for the disk.

    python benchmarks/checkpoint_save.py --megabytes 100 --rounds 15

The state is that of a network trained with Adam. The methods take turns; the ratio to the first one is computed in each
round, and the median is printed.
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
    """The weights, and the two moments that Adam keeps of each."""
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


def methods(folder: Path, state: dict[str, Any], background: CheckpointWriter) -> dict[str, Callable[[int], object]]:
    """The compared methods, by name: each saves or loads once. The first is the reference for the others."""
    flat = dict(state["model"])
    for index, moments in state["optimizer"]["state"].items():
        flat |= {f"{index}.{name}": moment for name, moment in moments.items()}
    store = CheckpointStore(folder / "foreground")

    def with_torch(count: int) -> None:
        torch.save(state, folder / "state.pt")
        synced(folder / "state.pt")

    def with_safetensors(count: int) -> None:
        safetensors.torch.save_file(flat, folder / "state.safetensors")
        synced(folder / "state.safetensors")

    return {
        "torch.save": with_torch,
        "safetensors.save_file, tensors only": with_safetensors,
        "CheckpointStore.save": lambda count: store.save(state, epoch=count, step=count, keep=2),
        "in the background: time the training waits": lambda count: background.save(
            state, epoch=count, step=count, keep=2
        ),
        "torch.load": lambda count: torch.load(folder / "state.pt", weights_only=True),
        "CheckpointStore.load": lambda count: store.load(),
    }


def measure(
    functions: dict[str, Callable[[int], object]], rounds: int, between: Callable[[], object]
) -> dict[str, list[float]]:
    """The seconds of each function in each round, after a first round that does not count.

    Args:
        functions: what to time, by name.
        rounds: how often each function is timed.
        between: called after each function, outside the timing.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for count in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function(count)
            seconds[name].append(time.perf_counter() - start)
            between()
    return {name: each[1:] for name, each in seconds.items()}


def main() -> None:
    """Prints a line for each method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=100.0, help="the size of the state (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="how often each method runs (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(dir=Path.cwd()))
    try:
        background = CheckpointWriter(CheckpointStore(folder / "background"), background=True)
        compared = methods(folder, make_state(options.megabytes), background)
        seconds = measure(compared, options.rounds, background.wait)
    finally:
        shutil.rmtree(folder)
    reference = next(iter(seconds.values()))
    for name, each in seconds.items():
        ratio = statistics.median(own / other for own, other in zip(each, reference, strict=True))
        print(f"{name:42}{statistics.median(each):8.3f} s{ratio:8.2f} x")


if __name__ == "__main__":
    main()
