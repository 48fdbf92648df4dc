"""Compares how much time AudioZEN, Ignite, Accelerate and Lightning add to each step of a plain training loop.

All four train the same tiny network on the same data set with the same optimiser, with one item in a batch. They show
the loss in a progress bar on a terminal, and record it for TensorBoard every 50 steps. AudioZEN and Ignite also stop if
the loss is NaN. AudioZEN runs an experiment as a user would, with its default hooks. The code for the others follows
their documentation.

The result for a library is its CPU time for a step, minus the CPU time for a step of a plain PyTorch loop without
logging and progress bar. The cost of loading a batch cancels out: for AudioZEN, the plain loop reads from a
`BatchLoader`, and for the others, it reads from a `DataLoader`. The module `item_cost` compares both loaders.

In a further row, AudioZEN's trainer takes its steps without everything that it promises: hooks, records, checks, copies
of the inputs, and names of samples for errors. This is the bound for what AudioZEN can save.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pty
import subprocess
import sys
import tempfile
import time
import tty
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from audiozen_core.data.loader import BatchLoader
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.trainer.base_trainer import BaseTrainer
from benchmarks.measuring import Goal, Row, alternate, row_of

FIRST, LAST = 200, 1200
LOG_EVERY = 50
EXPERIMENT = f"""
[meta]
save_dir = "."
device = "cpu"
num_threads = 1
[trainer]
path = "{__name__}.Trainer"
args = {{max_epochs = 1, log_interval = {LOG_EVERY}}}
[model]
path = "{__name__}.Network"
[loss_function]
path = "torch.nn.MSELoss"
[optimizer]
path = "torch.optim.Adam"
args = {{lr = 1e-3}}
[dataset]
path = "{__name__}.Pairs"
dataloader = {{batch_size = 1}}
"""


class Pairs(Dataset[dict[str, Tensor]]):
    """A data set of random vectors and their sums.

    It notes the CPU time of this process when the `FIRST`th and the `LAST`th item are read.
    """

    moments: dict[int, float] = {}  # noqa: RUF012 (shared on purpose: each library makes its own data set)

    def __init__(self) -> None:
        self.x = torch.randn(LAST + 1, 8, generator=torch.Generator().manual_seed(0))
        self.reads = 0

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        self.reads += 1
        if self.reads in (FIRST, LAST):
            self.moments[self.reads] = time.process_time()
        x = self.x[index]
        return {"x": x, "y": x.sum(0, keepdim=True)}


class Network(nn.Sequential):
    """A network of 81 weights."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))


class Trainer(BaseTrainer):
    """Trains the network to estimate the sum of its inputs."""

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Returns the loss of one batch."""
        return {"loss": self.loss_function(self.model(batch["x"]), batch["y"])}


class BareTrainer(Trainer):
    """Takes most of its steps as a plain loop does: without hooks, records, checks, and copies of the inputs."""

    def _train_batch(self, item: Any, batch_idx: int, samples: int) -> None:
        if batch_idx < FIRST // 2:  # the end of the epoch needs a record
            super()._train_batch(item, batch_idx, samples)
            return
        if batch_idx == FIRST // 2:
            self.model._forward_pre_hooks.clear()
            self.model._forward_hooks.clear()
            self.loss_function._forward_pre_hooks.clear()
        self.optimizer.zero_grad()
        self.training_step(item, batch_idx)["loss"].backward()
        self.optimizer.step()
        self.progress.complete_batch()
        self.progress.step += 1


def parts() -> tuple[nn.Module, torch.optim.Optimizer, DataLoader[Any]]:
    """Returns the network, the optimiser and the loader for everything but AudioZEN."""
    network = Network()
    return network, torch.optim.Adam(network.parameters(), lr=1e-3), DataLoader(Pairs(), batch_size=1, shuffle=True)


def train_plainly(folder: Path) -> None:
    """Trains with the plain loop, over a `DataLoader`."""
    loop(parts()[2])


def train_over_our_loader(folder: Path) -> None:
    """Trains with the plain loop, over AudioZEN's `BatchLoader`."""
    loop(BatchLoader(Pairs(), batch_size=1, shuffle=True).epoch(1))


def loop(batches: Iterable[Any]) -> None:
    """Trains on all batches with a loop as in PyTorch's tutorials."""
    network, optimizer, _ = parts()
    error = nn.MSELoss()
    for batch in batches:
        optimizer.zero_grad()
        loss = error(network(batch["x"]), batch["y"])
        loss.backward()
        optimizer.step()


def train_audiozen(folder: Path, trainer: type[BaseTrainer] = Trainer) -> None:
    """Trains an experiment like `audiozen run`."""
    file = folder / "tiny.toml"
    file.write_text(EXPERIMENT.replace(f"{__name__}.Trainer", f"{__name__}.{trainer.__name__}"))
    Experiment.load(file, modes=("train",), overrides=[f"meta.save_dir={folder}"]).run()


def train_ignite(folder: Path) -> None:
    """Trains with Ignite, its progress bar and its handlers, as its documentation shows."""
    from ignite.engine import Events, create_supervised_trainer
    from ignite.handlers import ProgressBar, TerminateOnNan
    from ignite.handlers.logger_utils import setup_tb_logging
    from ignite.metrics import RunningAverage

    network, optimizer, loader = parts()
    trainer = create_supervised_trainer(
        network, optimizer, nn.MSELoss(), prepare_batch=lambda batch, device, non_blocking: (batch["x"], batch["y"])
    )
    RunningAverage(output_transform=lambda loss: loss).attach(trainer, "loss")
    ProgressBar().attach(trainer, ["loss"])
    trainer.add_event_handler(Events.ITERATION_COMPLETED, TerminateOnNan())
    logger = setup_tb_logging(str(folder), trainer, optimizers=optimizer, log_every_iters=LOG_EVERY)
    trainer.run(loader, max_epochs=1)
    logger.close()


def train_accelerate(folder: Path) -> None:
    """Trains with Accelerate and its tracker, and with tqdm, which the examples of Accelerate use."""
    from accelerate import Accelerator
    from tqdm.auto import tqdm

    accelerator = Accelerator(cpu=True, log_with="tensorboard", project_dir=folder)
    accelerator.init_trackers("tiny")
    network, optimizer, loader = accelerator.prepare(*parts())
    error = nn.MSELoss()
    progress = tqdm(range(len(loader)))
    for step, batch in enumerate(loader):
        loss = error(network(batch["x"]), batch["y"])
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        progress.update(1)
        progress.set_postfix(loss=loss.item(), refresh=False)  # tqdm redraws ten times a second
        if step % LOG_EVERY == 0:
            accelerator.log({"loss": loss.item()}, step=step)
    accelerator.end_training()


def train_lightning(folder: Path) -> None:
    """Trains with Lightning, its progress bar and its TensorBoard logger."""
    from lightning import LightningModule
    from lightning import Trainer as LightningTrainer
    from lightning.pytorch.loggers import TensorBoardLogger

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.error = Network(), nn.MSELoss()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = self.error(self.network(batch["x"]), batch["y"])
            self.log("loss", loss, prog_bar=True)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    trainer = LightningTrainer(
        accelerator="cpu",
        max_epochs=1,
        log_every_n_steps=LOG_EVERY,
        default_root_dir=folder,
        logger=TensorBoardLogger(folder),
        enable_model_summary=False,
    )
    trainer.fit(Module(), DataLoader(Pairs(), batch_size=1, shuffle=True))


def step_seconds(train: Callable[[Path], None]) -> float:
    """Trains, and returns the CPU time of one step in seconds, as the mean between the `FIRST` and the `LAST` item."""
    with tempfile.TemporaryDirectory() as folder:
        train(Path(folder))
    return (Pairs.moments[LAST] - Pairs.moments[FIRST]) / (LAST - FIRST)


@contextlib.contextmanager
def terminal() -> Iterator[None]:
    """Redirects standard output and standard error to a pseudo-terminal, so that progress bars are drawn.

    Another process reads the terminal and discards the text.
    """
    master, slave = pty.openpty()
    tty.setraw(slave)
    reader = subprocess.Popen(["cat"], stdin=master, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(master)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    os.dup2(slave, 1)
    os.dup2(slave, 2)
    os.close(slave)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, before in zip((1, 2), kept, strict=True):
            os.dup2(before, descriptor)
            os.close(before)
        reader.wait()


def rows(rounds: int = 5) -> list[Row]:
    """Measures one row for each peer, and the bound. Each round measures all of them and both plain loops in turn."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    sides = {
        "over our loader": train_over_our_loader,
        "bare": partial(train_audiozen, trainer=BareTrainer),
        "plain": train_plainly,
        "Ignite": train_ignite,
        "Accelerate": train_accelerate,
        "Lightning": train_lightning,
    }
    with terminal():
        ours, others = alternate(
            lambda: step_seconds(train_audiozen),
            {name: partial(step_seconds, train) for name, train in sides.items()},
            rounds=rounds,
        )

    def added(costs: list[float], loop: str) -> list[float]:
        return [whole - plain for whole, plain in zip(costs, others[loop], strict=True)]

    def row(what: str, costs: list[float], name: str, goal: Goal | None) -> Row:
        own, theirs = added(costs, "over our loader"), added(others[name], "plain")
        return row_of(what, own, name, theirs, unit="µs of CPU", scale=1e6, goal=goal)

    what = "what a trainer adds to a step of a plain loop"
    limits = {"Ignite": 0.5, "Accelerate": 1.0, "Lightning": 1.0}
    measured = [row(f"{what}: {name}", ours, name, Goal("at most", limit)) for name, limit in limits.items()]
    return [*measured, row(f"{what}, without its hooks, records and checks", others["bare"], "Ignite", None)]
