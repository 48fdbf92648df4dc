"""The progress shows learning rates, also of optimisers that have none; of the time of a step, only its sum."""

from __future__ import annotations

import pytest
import torch

from audiozen_core.hooks.marker import hookimpl
from audiozen_plugins.hooks.progress import ProgressBar
from audiozen_plugins.hooks.resources import Resources
from tests.tiny_training import make_loader, make_trainer


class FindsItsRate(torch.optim.SGD):
    """Has no learning rate, like `transformers.Adafactor`, which derives it from the step."""

    def __init__(self, params):
        super().__init__(params, lr=0.1)
        for group in self.param_groups:
            group["lr"] = None

    def step(self, closure=None):
        for weight in self.param_groups[0]["params"]:
            weight.data -= 0.01 * weight.grad


def without_key(params):
    optimizer = FindsItsRate(params)
    del optimizer.param_groups[0]["lr"]
    return optimizer


@pytest.mark.parametrize("bars", [False, True])
@pytest.mark.parametrize("optimizer", [FindsItsRate, without_key])
def test_optimizer_without_a_rate_is_shown_without_it(optimizer, bars, capsys):
    hooks = {"progress": ProgressBar(bars=bars, line_seconds=0.0)}
    trainer = make_trainer(hooks=hooks, optimizer=optimizer, max_epochs=2)
    trainer.train(make_loader(), [make_loader()])
    shown = capsys.readouterr().err
    assert "2/2" in shown
    assert "lr" not in shown


def test_rate_is_shown_where_there_is_one(capsys):
    make_trainer(hooks={"progress": ProgressBar(bars=False, line_seconds=0.0)}, max_epochs=1).train(make_loader())
    shown = capsys.readouterr().err
    assert "lr=0.05" in shown
    assert "lr 0.05" in shown


@pytest.mark.parametrize("bars", [False, True])
def test_the_parts_of_a_step_are_in_records_and_not_in_lines(bars, capsys):
    seen = []

    class Sees:
        @hookimpl
        def on_epoch_end(self, metrics):
            seen.append(metrics)

    hooks = {"progress": ProgressBar(bars=bars), "resources": Resources(), "sees": Sees()}
    make_trainer(hooks=hooks, max_epochs=1).train(make_loader())
    shown = capsys.readouterr().err
    assert "train/seconds_forward" in seen[0]
    assert "seconds_data" in shown or bars
    assert "seconds_forward" not in shown
    assert "seconds_rest" not in shown
