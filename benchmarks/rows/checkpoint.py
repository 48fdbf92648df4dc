"""Measures saving and loading a checkpoint of a network that is trained with Adam.

Saving: AudioZEN copies the state, and training continues while a thread hashes the copy and writes it to the disk. The
first row measures how long training waits for one save (wall-clock time). The peer copies the state once into memory
that is already allocated. In the second row, two saves follow each other, and the second save must wait until the first
one is written.

Loading: `CheckpointStore.load` verifies the hash of every file before it uses the file. In the third row, the peer is
`torch.load` with `weights_only=True`, which verifies nothing. In the fourth row, the peer is `torch.load` with
`mmap=True`, which maps the file into memory without reading it. In this row, AudioZEN and the peer also sum all
tensors, so that every byte is read. CPU time is measured, and the operating system has cached all files.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.checkpoint.writer import CheckpointWriter
from benchmarks.measuring import Goal, Row, compare, cpu_seconds, seconds

MEGABYTES = 100


def make_state(megabytes: float = MEGABYTES) -> dict[str, Any]:
    """Returns a state of about the given size: a network's weights, and the two moments of Adam for each weight."""
    torch.manual_seed(0)
    side = int((megabytes * 1e6 / 4 / 3 / 8) ** 0.5)
    model = nn.Sequential(*(nn.Linear(side, side) for _ in range(8)))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, side)).square().mean().backward()
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def tensors_of(state: Any) -> list[Tensor]:
    """Returns all tensors of a state."""
    if isinstance(state, Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return [tensor for value in values for tensor in tensors_of(value)]


def read(state: Any) -> None:
    """Reads every number of a state."""
    for tensor in tensors_of(state):
        tensor.sum()


def load_mapped(file: Path) -> Any:
    """Loads a file that `torch.save` wrote, by mapping it into memory."""
    return torch.load(file, weights_only=True, mmap=True)


def rows(rounds: int = 15) -> list[Row]:
    """Measures two rows for saving and two rows for loading."""
    torch.set_num_threads(1)
    state = make_state()
    tensors = tensors_of(state)
    copies = [torch.empty_like(tensor) for tensor in tensors]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store = CheckpointStore(folder / "checkpoints")
        writer = CheckpointWriter(store, background=True)
        torch.save(state, folder / "state.pt")
        saved = 0

        def save() -> None:
            nonlocal saved
            saved += 1
            writer.save(state, epoch=saved, step=saved, keep=2)

        def saves(number: int) -> float:
            writer.wait()
            return number * seconds(save, number=number)

        def copy() -> float:
            writer.wait()  # the thread that writes the last save must not share the processor with the copy
            return seconds(lambda: [into.copy_(tensor) for into, tensor in zip(copies, tensors, strict=True)])

        saving = compare(
            f"training waits for one save of {MEGABYTES} MB",
            lambda: saves(1),
            {"copying the state once": copy},
            unit="ms",
            scale=1000,
            goal=Goal("at most", 1.5),
            rounds=rounds,
        )
        twice = compare(
            f"training waits for two saves in a row, {MEGABYTES} MB each",
            lambda: saves(2),
            {"copying the state once": copy},
            unit="ms",
            scale=1000,
            goal=None,
            rounds=min(rounds, 7),
        )
        writer.wait()
        if errors := [result.error for result in writer.take_results() if result.error]:
            raise errors[0]
        loading = compare(
            f"loading a checkpoint of {MEGABYTES} MB, verified",
            lambda: cpu_seconds(store.load),
            {
                "torch.load, not verified": lambda: cpu_seconds(
                    lambda: torch.load(folder / "state.pt", weights_only=True)
                )
            },
            unit="ms of CPU",
            scale=1000,
            goal=Goal("at most", 1),
            rounds=rounds,
        )
        mapped = compare(
            f"loading {MEGABYTES} MB and reading every number",
            lambda: cpu_seconds(lambda: read(store.load().state)),
            {"torch.load with mmap": lambda: cpu_seconds(lambda: read(load_mapped(folder / "state.pt")))},
            unit="ms of CPU",
            scale=1000,
            goal=None,
            rounds=rounds,
        )
    return [saving, twice, loading, mapped]
