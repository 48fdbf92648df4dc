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


class Incomplete(torch.utils.data.Dataset):
    """A data set that has fewer samples on other machines."""

    def __len__(self):
        return 7 - int(os.environ["RANK"])

    def __getitem__(self, index):
        return {"noisy": torch.ones(4000), "clean": torch.ones(4000)}
