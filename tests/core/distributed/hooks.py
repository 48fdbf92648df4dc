"""Hooks that behave differently on each rank."""

import math
import os
import signal
import threading
import time
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


class GathersInSteps:
    """Lets the ranks tell each other something after each batch of an evaluation; they have different numbers."""

    affects_training = False

    @hookimpl.on_evaluation_step_end
    def on_evaluation_step_end(self, trainer):
        trainer.ranks.gather([(0, 1.0)])


class FailsInBackward:
    """Raises an error in the backward pass of the last rank, while the others wait for its gradients."""

    affects_training = False

    @hookimpl.backward
    def backward(self, trainer):
        if trainer.ranks.rank == trainer.ranks.size - 1:
            raise ValueError("only here")


class FreezesOnOneRank:
    """Freezes a weight on the last rank only."""

    affects_training = False

    @hookimpl.on_epoch_start
    def on_epoch_start(self, trainer, epoch):
        if trainer.ranks.rank == trainer.ranks.size - 1 and epoch == 2:
            next(trainer.models[""].parameters()).requires_grad_(False)


class NanScalar:
    """Adds a scalar that is NaN on all ranks."""

    affects_training = False

    @hookimpl.evaluation_scalars
    def evaluation_scalars(self):
        return {"unknown": math.nan}


class OnlyMain:
    """Is asked whether to stop, in the main process only."""

    affects_training = False
    main_process_only = True

    @hookimpl.stop_within_epoch_reason
    def stop_within_epoch_reason(self, trainer):
        return "enough" if trainer.progress.step == 3 else None


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


class NotesClips:
    """Writes down the clips of each training step, with the epoch. Each rank has a file of its own."""

    affects_training = False

    def __init__(self, folder):
        self.folder = Path(folder)

    @hookimpl.on_training_step_start
    def on_training_step_start(self, trainer, batch):
        with (self.folder / f"trained.{trainer.ranks.rank}").open("a") as file:
            file.writelines(f"{trainer.progress.epoch + 1} {clip}\n" for clip in batch["id"])


class HurtOnce:
    """Kills a process of the run after a step, and leaves a file so that it does so only once.

    `whom` is the number of a rank; `all` for all ranks; `launcher` for the launcher of rank 0; or `machine` for the
    last rank and its launcher.
    """

    affects_training = False

    def __init__(self, folder, step, whom, name="SIGKILL"):
        self.flag, self.step, self.whom, self.number = Path(folder) / "hurt", step, str(whom), getattr(signal, name)

    @hookimpl.on_optimizer_step_end
    def on_optimizer_step_end(self, trainer, step):
        ranks = trainer.ranks
        chosen = {
            "all": True,
            "launcher": ranks.is_main,
            "machine": ranks.rank == ranks.size - 1,
        }.get(self.whom, self.whom == str(ranks.rank))
        if step != self.step or ranks.any(self.flag.exists()):
            return
        if chosen:
            self.flag.touch()
            if self.whom in ("launcher", "machine"):
                os.kill(os.getppid(), self.number)
            if self.whom != "launcher":
                os.kill(os.getpid(), self.number)


class InterruptsTwice:
    """Rank 0 sends SIGINT to its launcher in a step that would not end, and once more when it has arrived here."""

    affects_training = False

    @hookimpl.on_training_step_start
    def on_training_step_start(self, trainer):
        launcher = os.getppid()
        if trainer.ranks.is_main:
            os.kill(launcher, signal.SIGINT)
            time.sleep(1.0)
            os.kill(launcher, signal.SIGINT)
        threading.Event().wait(60)


class GetsStuckOnce:
    """Lets the last rank wait for ever after a step, and leaves a file so that it does so only once."""

    affects_training = False

    def __init__(self, folder, step):
        self.flag, self.step = Path(folder) / "hurt", step

    @hookimpl.on_optimizer_step_end
    def on_optimizer_step_end(self, trainer, step):
        if step == self.step and trainer.ranks.rank == trainer.ranks.size - 1 and not self.flag.exists():
            self.flag.touch()
            threading.Event().wait()


class WaitsForOthers:
    """Makes each step take longer while the run has fewer ranks than it will have."""

    affects_training = False

    def __init__(self, size):
        self.size = size

    @hookimpl.on_optimizer_step_end
    def on_optimizer_step_end(self, trainer):
        if trainer.ranks.size < self.size:
            time.sleep(0.3)
