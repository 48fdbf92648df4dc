"""The short names `self.model`, … say which parts exist, if the part without a suffix does not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from audiozen_core.errors import RunError
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.scheduler import Scheduler
from tests.tiny_training import TinyTrainer


@pytest.mark.parametrize("attribute", ["model", "loss_function", "optimizer", "lr_scheduler"])
def test_error_names_the_suffixes(attribute):
    nets = {name: nn.Linear(4, 1) for name in ("g", "d")}
    optimizers = {name: torch.optim.SGD(net.parameters(), lr=0.1) for name, net in nets.items()}
    schedulers = {name: Scheduler(torch.optim.lr_scheduler.StepLR(each, 1)) for name, each in optimizers.items()}
    losses = {name: nn.MSELoss() for name in nets}
    trainer = TinyTrainer(Components(nets, losses, optimizers, schedulers))
    with pytest.raises(
        RunError, match=rf"uses `self\.{attribute}`.* only \[{attribute}_d\], \[{attribute}_g\]"
    ) as error:
        getattr(trainer, attribute)
    assert f'self.{attribute}s["d"]' in error.value.remedy


def test_error_for_a_part_that_does_not_exist_names_its_section():
    trainer = TinyTrainer(Components({"": nn.Linear(4, 1)}))
    assert trainer.lr_scheduler is None
    for attribute in ("loss_function", "optimizer"):
        with pytest.raises(RunError) as error:
            getattr(trainer, attribute)
        assert error.value.message.endswith(f"the experiment has no [{attribute}]")
        assert error.value.remedy == f"add a section [{attribute}]"


@pytest.mark.parametrize("attribute", ["models", "loss_functions", "optimizers", "lr_schedulers"])
def test_suffix_that_does_not_exist_is_an_error_that_names_the_others(attribute):
    nets = {name: nn.Linear(4, 1) for name in ("g", "d")}
    trainer = TinyTrainer(Components(nets))
    kind = attribute.removesuffix("s")
    with pytest.raises(RunError, match=rf"the experiment has no \[{kind}_x\]") as error:
        getattr(trainer, attribute)["x"]
    known = "suffixes: `d` of [model_d], `g` of [model_g]" if attribute == "models" else f"it has no [{kind}]"
    assert known in error.value.notes[0]
    assert getattr(trainer, attribute).get("x") is None
    assert "x" not in getattr(trainer, attribute)
