"""Compares the memory of an experiment's training steps with a training loop as in PyTorch's tutorials.

Both train the same network with the same optimiser on the same batches, each in its own process, which has imported the
same modules. The result is the peak of the memory in use during some steps, minus the memory in use when the first
batch was read. It contains gradients, the state of the optimiser, activations, and whatever else the trainer keeps.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from audiozen_core.experiment.experiment import Experiment
from audiozen_core.trainer.base_trainer import BaseTrainer
from benchmarks.measuring import Goal, Row, compare, peak_memory, printed_bytes, reset_peak

STEPS, BATCH, FRAMES, BANDS, NEURONS = 3, 8, 400, 64, 512
# The C library maps memory for each tensor separately, and returns it to the system at once. Otherwise, the peak would
# vary from run to run.
EXACT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
EXPERIMENT = """
[meta]
save_dir = "{folder}"
device = "cpu"
num_threads = 1
[trainer]
path = "{module}.Trainer"
args = {{max_epochs = 1}}
[model]
path = "{module}.Network"
[loss_function]
path = "torch.nn.MSELoss"
[optimizer]
path = "torch.optim.Adam"
args = {{lr = 1e-3}}
[dataset]
path = "{module}.Frames"
dataloader = {{batch_size = {batch}}}
"""


class Frames(Dataset[Tensor]):
    """A data set of random frames. After `STEPS` batches, it prints how much memory the steps have needed."""

    def __init__(self) -> None:
        self.reads = 0
        self.before = 0

    def __len__(self) -> int:
        return (STEPS + 1) * BATCH

    def __getitem__(self, index: int) -> Tensor:
        if self.reads == 0:
            self.before = reset_peak()
        elif self.reads == STEPS * BATCH:
            print(f"memory:{peak_memory() - self.before}", flush=True)
        self.reads += 1
        return torch.randn(FRAMES, BANDS, generator=torch.Generator().manual_seed(index))


class Network(nn.Sequential):
    """A network of seven linear layers."""

    def __init__(self) -> None:
        hidden = [layer for _ in range(5) for layer in (nn.Linear(NEURONS, NEURONS), nn.ReLU())]
        super().__init__(nn.Linear(BANDS, NEURONS), nn.ReLU(), *hidden, nn.Linear(NEURONS, BANDS))


class Trainer(BaseTrainer):
    """Trains the network to return its input."""

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Returns the loss of one batch."""
        return {"loss": self.loss_function(self.model(batch), batch)}


def train_plainly() -> None:
    """Trains with a loop as in PyTorch's tutorials."""
    torch.set_flush_denormal(True)
    network, compare_frames = Network(), nn.MSELoss()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for batch in DataLoader(Frames(), batch_size=BATCH, shuffle=True):
        optimizer.zero_grad()
        loss = compare_frames(network(batch), batch)
        loss.backward()
        optimizer.step()


def train_audiozen() -> None:
    """Trains the experiment like `audiozen run`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "memory.toml"
        file.write_text(EXPERIMENT.format(folder=folder, module="benchmarks.rows.step_memory", batch=BATCH))
        Experiment.load(file, modes=("train",)).run()


def memory_of(side: str) -> float:
    """Calls a training function of this module in a new process, and returns the memory of its steps in bytes."""
    code = f"import torch; from benchmarks.rows import step_memory; torch.set_num_threads(1); step_memory.{side}()"
    return printed_bytes([sys.executable, "-c", code], {**os.environ, **EXACT})


def rows(rounds: int = 2) -> list[Row]:
    """Measures one row."""
    return [
        compare(
            "peak memory that an experiment's training steps need",
            lambda: memory_of("train_audiozen"),
            {"a plain loop": lambda: memory_of("train_plainly")},
            unit="MB",
            scale=1e-6,
            goal=Goal("at most", 1.02),
            rounds=rounds,
            warm_up=0,
        )
    ]
