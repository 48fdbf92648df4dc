"""A small run whose trained network the tests use."""

import pytest

from audiozen_core.testing.tiny import TinyExperiment

OWN = """\
import torch
from torch import nn
from helper import LEVEL


class Gate(nn.Module):
    domain = "magnitude"

    def __init__(self, size: int = 65):
        super().__init__()
        self.level = nn.Parameter(torch.full((size, 1), LEVEL))

    def forward(self, x):
        return x * torch.sigmoid(4 * (x - self.level))
"""


@pytest.fixture(scope="package")
def tiny(tmp_path_factory):
    """A trained experiment with a network of its own and an average of the weights."""
    tiny = TinyExperiment(tmp_path_factory.mktemp("use"))
    (tiny.folder / "own.py").write_text(OWN)
    (tiny.folder / "helper.py").write_text("LEVEL = 0.3\n")
    tiny.set("model", "own.Gate").set("optimizer", lr=0.05).set("trainer", max_epochs=2)
    # What only a training needs may be missing where the network is used.
    tiny.set("trainer", metrics=["si_sdr", "pesq"])
    tiny.add_hook("ema", decay=0.5, evaluate=False)
    return tiny


@pytest.fixture(scope="package")
def run(tiny):
    """The folder of the run."""
    return tiny.run().folder
