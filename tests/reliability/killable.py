"""A run to be killed: the process trains, saves after every other step, and goes on from what is there."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from audiozen_core import logging
from audiozen_core.building import seed_generators
from audiozen_core.checkpoint import CheckpointStore
from audiozen_core.hookspecs import hookimpl
from audiozen_core.interruption import Interrupted
from audiozen_core.run_lock import RunLock
from audiozen_plugins.hooks.checkpoint import Checkpoint
from audiozen_plugins.hooks.metrics_jsonl import MetricsJsonl
from audiozen_plugins.hooks.signals import Signals
from tests.tiny_training import make_loader, make_trainer

EPOCHS = 6


class Reports:
    """Tells of each step on standard output, and of the workers, so that the killer knows whom to look for."""

    @hookimpl
    def on_training_step_end(self, trainer) -> None:
        print("step", trainer.progress.step, flush=True)


def train(folder: Path, *, epochs: int = EPOCHS, workers: int = 2) -> None:
    """Starts or goes on, and trains to the end."""
    torch.set_num_threads(1)
    logging.configure(level="error")
    seed_generators(0)
    hooks = {"checkpoint": Checkpoint(), "metrics": MetricsJsonl(), "signals": Signals(), "reports": Reports()}
    trainer = make_trainer(folder, hooks=hooks, max_epochs=epochs, save_ckpt_interval_steps=2, max_num_checkpoints=3)
    loaders = [make_loader(num_workers=workers), make_loader(shuffle=False)]
    with RunLock(folder):
        store = CheckpointStore(folder / "checkpoints")
        if store.list(verify=False):
            loaded = store.load()
            trainer.load_checkpoint(loaded.state)
            store.rewind(loaded.path)
        trainer.train(loaders[0], loaders[1:])
    for loader in loaders:
        loader.close()
    print("end", flush=True)


if __name__ == "__main__":
    try:
        train(Path(sys.argv[1]), epochs=int(sys.argv[2]))
    except Interrupted as stop:
        sys.exit(stop.exit_code)
