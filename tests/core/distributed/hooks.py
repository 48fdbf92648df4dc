"""Hooks that behave differently on each rank."""

import math
import os
import signal
from pathlib import Path

import torch

from audiozen import hookimpl


class StopAt:
    """Stops the training within an epoch, and asks for it on the last rank only."""

    affects_training = False

    def __init__(self, step):
        self.step = step

    @hookimpl.stop_within_epoch_reason
    def stop_within_epoch_reason(self, trainer):
        is_last = trainer.ranks.rank == trainer.ranks.size - 1
        return "enough" if is_last and trainer.progress.step == self.step else None


class SignalAt:
    """Sends a signal to the last rank after a step."""

    affects_training = False

    def __init__(self, step, name="SIGTERM"):
        self.step, self.number = step, getattr(signal, name)

    @hookimpl.on_optimizer_step_end
    def on_optimizer_step_end(self, trainer, step):
        if trainer.ranks.rank == trainer.ranks.size - 1 and step == self.step:
            os.kill(os.getpid(), self.number)


class NanAt:
    """Makes the loss of one batch NaN, on the last rank only."""

    affects_training = False

    def __init__(self, batch_idx):
        self.batch_idx = batch_idx

    @hookimpl.on_training_step_start
    def on_training_step_start(self, trainer, batch, batch_idx):
        if trainer.ranks.rank == trainer.ranks.size - 1 and batch_idx == self.batch_idx:
            batch["noisy"] *= math.nan


class OwnBatches:
    """Adds a scalar that only depends on what its own rank has seen."""

    affects_training = False
    seen = 0

    @hookimpl.on_evaluation_step_end
    def on_evaluation_step_end(self, trainer):
        self.seen += 1 + trainer.ranks.rank

    @hookimpl.evaluation_scalars
    def evaluation_scalars(self):
        return {"seen": self.seen}


class OwnWeights:
    """Changes a weight on the last rank only."""

    affects_training = False

    @hookimpl.on_optimizer_step_end
    def on_optimizer_step_end(self, trainer):
        if trainer.ranks.rank == trainer.ranks.size - 1:
            with torch.no_grad():
                next(trainer.models[""].parameters()).mul_(1.001)


class FailAt:
    """Raises an error on the last rank."""

    affects_training = False

    def __init__(self, step):
        self.step = step

    @hookimpl.on_optimizer_step_end
    def on_optimizer_step_end(self, trainer, step):
        if trainer.ranks.rank == trainer.ranks.size - 1 and step == self.step:
            raise ValueError("only here")


class HurtOnce:
    """Kills a process of the run after a step, and leaves a file so that it does so only once.

    `whom` is the number of a rank, or `launcher`.
    """

    affects_training = False

    def __init__(self, folder, step, whom, name="SIGKILL"):
        self.flag, self.step, self.whom, self.number = Path(folder) / "hurt", step, str(whom), getattr(signal, name)

    @hookimpl.on_optimizer_step_end
    def on_optimizer_step_end(self, trainer, step):
        chosen = str(trainer.ranks.rank) if self.whom.isdecimal() else "launcher" * trainer.ranks.is_main
        if step == self.step and chosen == self.whom and not self.flag.exists():
            self.flag.touch()
            os.kill(os.getppid() if chosen == "launcher" else os.getpid(), self.number)
