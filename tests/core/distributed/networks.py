"""Networks and data for the tests of several ranks."""

import os

import torch
from torch import nn


class Dropping(nn.Module):
    """A network that draws random numbers in training, and has a running mean of what it has seen."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(65, 1))
        self.dropout = nn.Dropout(0.3)
        self.norm = nn.BatchNorm1d(65)

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
