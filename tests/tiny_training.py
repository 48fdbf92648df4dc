"""A trainer, a network and data so small that a run takes milliseconds."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from audiozen_core.data.loader import BatchLoader
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.scheduler import Scheduler


class TinyTrainer(BaseTrainer):
    """Least squares; the score is minus the mean error, so that higher is better."""

    def training_step(self, batch, batch_idx):
        return {"loss": self._error(batch)}

    def validation_step(self, batch, batch_idx, dataloader_idx):
        return self._error(batch)

    def validation_epoch_end(self, outputs):
        return -float(torch.stack([error for loader in outputs for error in loader]).mean())

    test_step = validation_step

    def test_epoch_end(self, outputs):
        return {"error": float(torch.stack(outputs[0]).mean())}

    def _error(self, batch):
        return (self.model(batch["x"]) - batch["y"]).square().mean()


class Pairs(torch.utils.data.Dataset):
    """Samples of a linear map, with noise that is drawn anew for each item."""

    def __init__(self, size=20, noise=0.1):
        self.x = torch.randn(size, 4, generator=torch.Generator().manual_seed(1))
        self.noise = noise

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        x = self.x[index]
        return {"x": x, "y": x.sum(0, keepdim=True) + self.noise * torch.randn(1), "id": f"sample {index}"}


def make_trainer(
    folder=".",
    *,
    hooks=(),
    optimizer=None,
    scheduler=None,
    interval="epoch",
    model=None,
    loss=None,
    cls=TinyTrainer,
    **args,
):
    """A trainer on a network of 5 weights that start from the same numbers every time."""
    torch.manual_seed(0)
    model = model() if model else nn.Sequential(nn.Linear(4, 1), nn.Dropout(0.1))
    optimizer = optimizer(model.parameters()) if optimizer else torch.optim.Adam(model.parameters(), lr=0.05)
    lifecycle = Lifecycle([Plugin(name, hook) for name, hook in dict(hooks).items()])
    schedulers = {"": Scheduler(scheduler(optimizer), interval)} if scheduler else {}
    components = Components(
        {"": model},
        loss_functions={"": loss} if loss else {},
        optimizers={"": optimizer},
        lr_schedulers=schedulers,
        lifecycle=lifecycle,
        folder=Path(folder),
        experiment="tiny",
    )
    return cls(components, **args)


def make_loader(size=20, *, batch_size=4, shuffle=True, **options):
    """Batches of `Pairs`."""
    return BatchLoader(Pairs(size), batch_size=batch_size, shuffle=shuffle, **options)


def weights_of(trainer):
    """All weights in one vector."""
    return torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()])
