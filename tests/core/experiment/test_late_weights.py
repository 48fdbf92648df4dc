"""Parameters that a network or a loss makes while it is used are refused, because no optimiser has them."""

import pytest
import torch

from audiozen_core.errors import RunError
from audiozen_core.experiment.dry_run import dry_run
from audiozen_core.experiment.experiment import Experiment
from tests.tiny_experiment import TinyExperiment

PARTS = """
class Grows(nn.Module):
    def __init__(self, trained: bool = True, lazy: bool = False):
        super().__init__()
        self.trained = trained
        self.first = nn.LazyLinear(1) if lazy else nn.Linear(4, 1)
        self.last = None

    def forward(self, x):
        if self.last is None:
            self.last = nn.Linear(1, 1).requires_grad_(self.trained)
        return self.last(self.first(x))


class GrowsLater(Grows):
    # Makes its last layer in its third training step, or in its first validation.
    def __init__(self, trained: bool = True, training: bool = True):
        super().__init__(trained)
        self.when = training
        self.calls = 0

    def forward(self, x):
        self.calls += self.training
        late = self.calls == 3 if self.when else not self.training
        return super().forward(x) if late or self.last else self.first(x)


class GrowingLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, output, target):
        if not hasattr(self, "shift"):
            self.shift = nn.Parameter(torch.ones(1))
        return (self.scale * output - target + self.shift).square().mean()
"""
LINEAR = 'path = "torch.nn.Linear"\nargs = {in_features = 4, out_features = 1}'
CASES = {
    "network": (LINEAR, 'path = "parts.Grows"'),
    "lazy": (LINEAR, 'path = "parts.Grows"\nargs.lazy = true'),
    "loss": ('path = "torch.nn.MSELoss"', 'path = "parts.GrowingLoss"\ntrainable = true'),
}


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path, PARTS)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("act", [dry_run, Experiment.run])
def test_parameters_of_the_first_step_are_an_error_that_names_them(tiny, case, act):
    names = r"\[loss_function\] .*: `shift`" if case == "loss" else r"\[model\] .*: `last.weight`, `last.bias`"
    with pytest.raises(RunError, match=names):
        act(Experiment.load(tiny.write(CASES[case])))
    assert not list((tiny.folder / "exp").rglob("*.safetensors"))


@pytest.mark.parametrize(
    "text", ['path = "parts.Grows"\nargs.trained = false', 'path = "torch.nn.LazyLinear"\nargs.out_features = 1']
)
def test_frozen_ones_and_lazy_modules_are_none(tiny, text):
    dry_run(Experiment.load(tiny.write((LINEAR, text))))
    state = tiny.run((LINEAR, text))
    assert all(torch.isfinite(weight).all() for weight in state["model"].values())


@pytest.mark.parametrize(("training", "saved"), [("true", 0), ("false", 1)])
def test_parameters_of_a_later_step_or_a_validation_are_an_error_within_an_epoch(tiny, training, saved):
    change = (LINEAR, f'path = "parts.GrowsLater"\nargs.training = {training}')
    with pytest.raises(RunError, match=r"\[model\] has created parameters .*: `last.weight`, `last.bias`"):
        tiny.run(change)
    assert len(list((tiny.folder / "exp").rglob("epoch_*"))) == saved
    # Negative control: they may be frozen.
    tiny.run((LINEAR, change[1] + "\nargs.trained = false"), name="frozen")
