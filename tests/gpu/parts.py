"""Networks and hooks for the tests of several ranks on a GPU."""

import os
import signal

import torch
from torch import nn

from audiozen import hookimpl


class Net(nn.Module):
    """Three layers, of which a sharded training gathers one after the other."""

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(65, 65) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, magnitude):
        hidden = magnitude.transpose(-1, -2)
        for layer in self.layers:
            hidden = hidden + torch.tanh(layer(self.dropout(hidden)))
        return hidden.transpose(-1, -2)


class Normed(nn.Module):
    """Scales each frequency by a function of its normalised magnitude."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(65)

    def forward(self, magnitude):
        return magnitude * torch.sigmoid(self.norm(magnitude))


class Filter(nn.Module):
    """Filters the wave."""

    def __init__(self):
        super().__init__()
        self.filter = nn.Conv1d(1, 1, 9, padding=4)

    def forward(self, wave):
        return self.filter(wave.unsqueeze(1)).squeeze(1)


class EndRank:
    """Raises an error on one rank, or sends it a signal, after a step."""

    affects_training = False

    def __init__(self, what: str, rank: int = 1, step: int = 2):
        self.what, self.rank, self.step = what, rank, step

    @hookimpl.on_training_step_end
    def on_training_step_end(self, trainer):
        if (trainer.progress.step, trainer.ranks.rank) == (self.step, self.rank):
            if self.what == "error":
                raise KeyError("planted")
            os.kill(os.getpid(), getattr(signal, self.what))


class Overflow:
    """Lets the gradients of one rank overflow in one step."""

    @hookimpl.on_training_step_start
    def on_training_step_start(self, trainer):
        overflows = (trainer.progress.step, trainer.ranks.rank) == (1, 1)
        trainer.loss_function.scale = 1e30 if overflows else 1.0


class ScaledLoss(nn.Module):
    """The mean absolute error, times a number."""

    scale = 1.0

    def forward(self, estimate, target):
        return (estimate - target).abs().mean() * self.scale


class NoWaiting:
    """Makes every wait for the GPU an error, between the first and the last batch of an epoch."""

    affects_training = False

    @hookimpl.on_training_step_end
    def on_training_step_end(self, trainer, batch_idx):
        strict = 1 <= batch_idx < trainer.num_batches - 2
        torch.cuda.set_sync_debug_mode("error" if strict else "default")
