"""Where an argument takes a callable, a table without `args` that names a function is the function."""

from __future__ import annotations

import pytest
import torch

from audiozen_core.errors import ConfigError
from audiozen_core.experiment.experiment import Experiment
from tests.tiny_experiment import TinyExperiment

PARTS = """
def halves(epoch):
    return 0.5 ** epoch


def power(base: float):
    return lambda epoch: base ** epoch


class Thirds:
    def __call__(self, epoch):
        return (1 / 3) ** epoch


def constant(base: float = 2.0):
    return nn.Linear(4, 1)


class Takes(nn.Linear):
    def __init__(self, inner: nn.Module):
        super().__init__(4, 1)
        assert isinstance(inner, nn.Module)
"""
OPTIMIZER = 'path = "torch.optim.Adam"\nargs.lr = 0.1\n'


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path, PARTS)


def scheduler(name, argument):
    path = f"torch.optim.lr_scheduler.{name}"
    return OPTIMIZER, f'{OPTIMIZER}[lr_scheduler]\npath = "{path}"\n[lr_scheduler.args]\n{argument}\n'


@pytest.mark.parametrize(
    ("name", "argument", "factor"),
    [
        ("LambdaLR", 'lr_lambda = {path = "parts.halves"}', 0.25),
        ("LambdaLR", 'lr_lambda = [{path = "parts.halves"}]', 0.25),
        ("LambdaLR", 'lr_lambda = {path = "parts.power", args = {base = 0.1}}', 0.01),
        ("LambdaLR", 'lr_lambda = {path = "parts.Thirds"}', 1 / 9),
        ("MultiplicativeLR", 'lr_lambda = {path = "parts.halves"}', 0.125),
        ("CyclicLR", 'base_lr = 0.0\nmax_lr = 0.2\nscale_fn = {path = "parts.halves"}', 0.001),
    ],
)
def test_scheduler_takes_a_function(tiny, name, argument, factor):
    state = tiny.run(scheduler(name, argument))
    assert state["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0.1 * factor, rel=1e-2)


def test_resumed_run_uses_the_function(tiny):
    changes = [scheduler("LambdaLR", 'lr_lambda = {path = "parts.halves"}')]
    tiny.run(*changes)
    state = tiny.run(*changes, overrides=["trainer.args.max_epochs=3"], resume=True)
    assert state["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0.1 / 8)


def test_network_takes_a_function_of_torch(tiny):
    model = 'path = "torch.nn.Linear"\nargs = {in_features = 4, out_features = 1}'
    layer = (
        'path = "torch.nn.TransformerEncoderLayer"\n'
        'args = {d_model = 4, nhead = 1, activation = {path = "torch.nn.functional.silu"}}'
    )
    trainer, _ = tiny.build((model, layer))
    assert trainer.model.activation is torch.nn.functional.silu


def test_function_is_called_where_no_callable_is_wanted(tiny):
    model = 'path = "torch.nn.Linear"\nargs = {in_features = 4, out_features = 1}'
    tiny.build((model, 'path = "parts.Takes"\nargs.inner = {path = "parts.constant"}'))


def test_a_string_or_a_function_with_wrong_arguments_is_reported(tiny):
    for argument, message in (
        ('lr_lambda = "parts.halves"', "not the string"),
        ('lr_lambda = {path = "parts.power", args = {bas = 1.0}}', "unknown argument `bas`"),
        ('lr_lambda = {path = "parts.power", args = {}}', "missing argument `base`"),
    ):
        with pytest.raises(ConfigError, match=message):
            Experiment.load(tiny.write(scheduler("LambdaLR", argument)))
