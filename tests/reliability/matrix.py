"""The runs of the resume matrix. Each has some state that a resume must not lose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau
from torch.utils.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    IterableDataset,
    Sampler,
    Subset,
    get_worker_info,
)

from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.data.loader import BatchLoader
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_plugins.hooks.amp import Amp
from audiozen_plugins.hooks.checkpoint import Checkpoint
from audiozen_plugins.hooks.clip_grad_norm import ClipGradNorm
from audiozen_plugins.hooks.nonfinite import NonFinite
from audiozen_plugins.hooks.patience import Patience
from tests.core.checkpoint.exactness import difference
from tests.tiny_training import Pairs, TinyTrainer, make_loader, make_trainer, state_of

EPOCHS = 3


class Ema:
    """A running mean of the weights."""

    def __init__(self) -> None:
        self.mean: dict[str, torch.Tensor] = {}

    @hookimpl
    def on_optimizer_step_end(self, trainer: BaseTrainer) -> None:
        for name, weight in trainer.model.state_dict().items():
            before = self.mean.get(name, torch.zeros_like(weight))
            self.mean[name] = torch.lerp(before, weight, 0.1)

    def state_dict(self) -> dict[str, Any]:
        return {"mean": {name: weight.clone() for name, weight in self.mean.items()}}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self.mean = dict(state["mean"])


class HalfPrecision(TinyTrainer):
    """Trains in half precision."""

    def __init__(self, components, **args):
        super().__init__(components, **args)
        self.use_amp = True


class Wavering(TinyTrainer):
    """The score is best in the first epoch, so patience and the plateau scheduler act."""

    def validation_epoch_end(self, outputs):
        return super().validation_epoch_end(outputs) - 100.0 * self.progress.epoch


class NotANumber(TinyTrainer):
    """The loss of the first batch is NaN. A resumed run restores its effect or repeats the batch."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)["loss"]
        return loss * float("nan") if (self.progress.epoch, batch_idx) == (0, 0) else loss


class EpochPairs(Pairs):
    """The outputs depend on the epoch that the data set is told."""

    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __getitem__(self, index):
        item = super().__getitem__(index)
        return {**item, "y": item["y"] + self.epoch}


class EpochOrder(Sampler[int]):
    """The order depends on the epoch that the sampler is told, as in `DistributedSampler`."""

    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return 20

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.epoch)
        return iter(torch.randperm(20, generator=generator).tolist())


class EpochStream(IterableDataset):
    """Gives the items of `EpochPairs`, each worker its share."""

    shards_itself = True

    def __init__(self):
        self.pairs = EpochPairs()

    def set_epoch(self, epoch):
        self.pairs.set_epoch(epoch)

    def __iter__(self):
        worker = get_worker_info()
        return (
            self.pairs[index] for index in range(worker.id if worker else 0, 20, worker.num_workers if worker else 1)
        )


def joined_loader(**options):
    """The data set is told the epoch within others, and so is a sampler."""
    dataset = ConcatDataset([Subset(EpochPairs(), range(12)), EpochPairs(8)])
    return BatchLoader(dataset, batch_size=4, sampler=EpochOrder(), **options)


def batch_sampler_loader(**options):
    return BatchLoader(EpochPairs(), batch_sampler=BatchSampler(EpochOrder(), 3, drop_last=True), **options)


def stream_loader(**options):
    return BatchLoader(ChainDataset([EpochStream(), EpochStream()]), batch_size=8, **options)


@dataclass(frozen=True)
class Row:
    """One row of the matrix.

    Attributes:
        args: the arguments of the trainer.
        vital: the owners whose state matters: a run that resumes without it ends differently.
        cls: the trainer's class.
        scheduler: makes the scheduler of an optimiser.
        interval: when the scheduler steps.
        hooks: makes further hooks, by name.
        workers: how many processes load the data.
        loader: makes the loader of the training.
    """

    args: dict[str, Any] = field(default_factory=dict)
    vital: tuple[str, ...] = ()
    cls: type[BaseTrainer] = TinyTrainer
    scheduler: Callable[..., Any] | None = None
    interval: str = "epoch"
    hooks: Callable[[], dict[str, Any]] = dict
    workers: int = 0
    loader: Callable[..., BatchLoader] = make_loader

    def trainer(self, folder: Path, *, every: int | None, asynchronous: bool, **more: Any) -> BaseTrainer:
        """Builds the trainer, with `more` hooks."""
        hooks = {"checkpoint": Checkpoint(), "patience": Patience(), "clip": ClipGradNorm(), **self.hooks(), **more}
        defaults = {"max_epochs": EPOCHS, "max_num_checkpoints": 999, "save_ckpt_interval_steps": every}
        args = {**defaults, "save_ckpt_async": asynchronous, "log_interval": 1, **self.args}
        return make_trainer(folder, hooks=hooks, cls=self.cls, scheduler=self.scheduler, interval=self.interval, **args)

    def run(
        self,
        folder: Path,
        *,
        state: dict[str, Any] | None = None,
        every: int | None = None,
        asynchronous: bool = False,
        seed: int = 1,
    ) -> dict[str, Any]:
        """Trains to the end, from `state` if it is given; returns the last state and the metrics of each epoch."""
        ends: list[dict[str, float]] = []

        class Listener:
            @hookimpl
            def on_epoch_end(self, metrics):
                ends.append(dict(metrics))

        trainer = self.trainer(folder, every=every, asynchronous=asynchronous, listens=Listener())
        torch.rand(11)  # Changes the generators, so that a resume must restore them.
        if state is not None:
            trainer.load_checkpoint(state)
        loaders = [self.loader(seed=seed, num_workers=self.workers), make_loader(shuffle=False)]
        trainer.train(loaders[0], loaders[1:])
        for loader in loaders:
            loader.close()
        return {**state_of(trainer), "metrics": ends}

    def fresh(self, folder: Path) -> dict[str, Any]:
        """Returns the state before the first step."""
        return state_of(self.trainer(folder, every=None, asynchronous=False))


def one_cycle(optimizer: torch.optim.Optimizer) -> Any:
    return OneCycleLR(optimizer, max_lr=0.2, total_steps=5 * EPOCHS + 1)


def plateau(optimizer: torch.optim.Optimizer) -> Any:
    return ReduceLROnPlateau(optimizer, mode="max", patience=0, factor=0.5)


ROWS = {
    "float32": Row(vital=("model", "optimizer", "progress", "rng", "scalars")),
    "bfloat16": Row(cls=HalfPrecision, hooks=lambda: {"amp": Amp()}, vital=("optimizer", "rng")),
    "float16 with scaler": Row(
        cls=HalfPrecision,
        hooks=lambda: {"amp": Amp("float16", init_scale=2.0**17)},
        vital=("hook_amp",),
    ),
    "accumulation 3": Row({"gradient_accumulation_steps": 3}, vital=("optimizer", "progress")),
    "clipping": Row({"clip_grad_norm_value": 0.1, "plot_norm": True}, vital=("rng", "scalars")),
    "plateau": Row(cls=Wavering, scheduler=plateau, vital=("lr_scheduler",)),
    "per step": Row(scheduler=one_cycle, interval="step", vital=("lr_scheduler",)),
    "patience": Row({"patience": 1, "max_epochs": 9}, cls=Wavering, vital=("progress",)),
    "validations within epochs": Row(
        {"validation_interval_steps": 3, "patience": 3}, cls=Wavering, scheduler=plateau, vital=("progress",)
    ),
    "epochs of steps over chained streams, accumulation": Row(
        {"steps_per_epoch": 4, "validation_interval_steps": 3, "gradient_accumulation_steps": 2},
        loader=stream_loader,
        vital=("progress",),
    ),
    "ema": Row(hooks=lambda: {"ema": Ema()}, vital=("hook_ema",)),
    "workers": Row(workers=2, vital=("rng",)),
    "told epochs, joined, sampler, workers": Row(loader=joined_loader, workers=2, vital=("progress",)),
    "told epochs, batch sampler": Row(loader=batch_sampler_loader, vital=("progress",)),
    "told epochs, chained streams, workers": Row(loader=stream_loader, workers=2, vital=("progress",)),
    "skip after a NaN": Row(
        {"on_nonfinite": "skip"},
        cls=NotANumber,
        hooks=lambda: {"nonfinite": NonFinite()},
        vital=("hook_nonfinite",),
    ),
    "rollback after a NaN": Row(
        {"on_nonfinite": "rollback"},
        cls=NotANumber,
        hooks=lambda: {"nonfinite": NonFinite()},
        vital=("hook_nonfinite",),
    ),
}


def end_difference(whole: dict[str, Any], resumed: dict[str, Any]) -> str | None:
    """Describes how the ends of two runs differ, ignoring the epochs before the resume; None if they are equal."""
    epochs = len(resumed["metrics"])
    tail = {**whole, "metrics": whole["metrics"][len(whole["metrics"]) - epochs :]}
    return difference(tail, resumed)


def checkpoints(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Returns name and state of each checkpoint of a run, oldest first."""
    store = CheckpointStore(folder / "checkpoints")
    return [(info.path.name, store.load(info.path).state) for info in store.list(verify=False)]
