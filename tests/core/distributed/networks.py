"""Networks and data for the tests of several ranks."""

import os

import numpy as np
import torch
from torch import nn

from audiozen_core.trainer.base_trainer import BaseTrainer


class Dropping(nn.Module):
    """A network that draws random numbers in training, and has a running mean of what it has seen."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(65, 1))
        self.dropout = nn.Dropout(0.3)
        self.norm = nn.BatchNorm1d(65)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int16))
        self.register_buffer("mask", torch.ones(65, dtype=torch.bool))

    def forward(self, magnitude):
        return magnitude * torch.sigmoid(
            self.gain + self.dropout(self.norm(magnitude.squeeze(1) if magnitude.dim() > 3 else magnitude))
        )


class Stack(nn.Module):
    """A network with layers in a list, a recurrent layer, a frozen layer, unused weights and dropout."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.enter = nn.Linear(4, 8)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(3))
        self.dropout = nn.Dropout(dropout)
        self.recurrent = nn.GRU(8, 5, batch_first=True)
        self.frozen = nn.Linear(5, 5).requires_grad_(False)
        self.leave = nn.Linear(5, 1)
        self.unused = nn.Parameter(torch.full((3,), 0.7))

    def forward(self, x):
        hidden = self.enter(x)
        for layer in self.layers:
            hidden = hidden + layer(hidden)
        return self.decode(hidden)

    def decode(self, hidden):
        """Returns the last two layers' output; some trainers call it."""
        output, _ = self.recurrent(self.dropout(hidden))
        return self.leave(self.frozen(output))


class Incomplete(torch.utils.data.Dataset):
    """A data set that has fewer samples on other machines."""

    def __len__(self):
        return 7 - int(os.environ["RANK"])

    def __getitem__(self, index):
        return {"noisy": torch.ones(4000), "clean": torch.ones(4000)}


class _NanGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, signal):
        return signal.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("nan")


class NanGradient(nn.Module):
    """A network with finite outputs whose gradient is NaN."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, magnitude):
        return _NanGradient.apply(self.gain * magnitude)


class OwnOrder(torch.utils.data.Sampler):
    """A sampler that draws from a generator that nobody seeds."""

    def __init__(self, data_source):
        self.size = len(data_source)

    def __iter__(self):
        return iter([*np.random.default_rng().permutation(self.size).tolist(), os.getpid() % 2])

    def __len__(self):
        return self.size + 1


class SameId(torch.utils.data.Dataset):
    """Two samples with one ID."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return {"id": "same", "noisy": torch.ones(4000), "length": 4000, "sr": 16000}


class OwnScore(BaseTrainer):
    """A trainer whose score depends on the rank."""

    def training_step(self, batch, batch_idx):
        return self.loss_function(self.model(self.stft(batch["noisy"]).abs()), self.stft(batch["clean"]).abs())

    def validation_step(self, batch, batch_idx, dataloader_idx):
        return 0.0

    def validation_epoch_end(self, outputs):
        return self.progress.epoch * (1 - 2 * self.ranks.rank)
