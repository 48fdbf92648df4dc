"""A trainer, a network and a data set that are small enough to train in milliseconds."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn

from audiozen_core.data.loader import BatchLoader
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.scheduler import Scheduler


class TinyTrainer(BaseTrainer):
    """Minimises the squared error. The score is the negative mean error, so a higher score is better."""

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
    """Inputs and outputs of a linear map. Each access to an item draws new noise."""

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
    """Returns a trainer for a network of 5 weights, whose initial values are the same in every call."""
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
    """Returns a loader for batches of `Pairs`."""
    return BatchLoader(Pairs(size), batch_size=batch_size, shuffle=shuffle, **options)


def weights_of(trainer):
    """Returns all weights of the model in one vector."""
    return torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()])


def state_of(trainer):
    """Returns a copy of the complete state, as a checkpoint would hold it."""
    with trainer.checkpoint() as state:
        return copy.deepcopy(state)
