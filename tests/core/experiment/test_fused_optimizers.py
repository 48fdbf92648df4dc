"""A fused optimiser is clipped, scaled and resumed like any other; `check --build` says where it is faster."""

import pytest
import torch
from torch import nn

from audiozen_core.experiment import fused_optimizers
from audiozen_core.experiment.dry_run import dry_run
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.experiment.fused_optimizers import fused_facts
from tests.core.checkpoint.exactness import difference
from tests.tiny_experiment import TOML, TinyExperiment

FUSED = ("args.lr = 0.1", "args.lr = 0.1\nargs.fused = true")
AMP = ('device = "cpu"', 'device = "cpu"\nuse_amp = true')
FLOAT16 = TOML + '[[hooks]]\npath = "amp"\nargs.dtype = "float16"\n'
CLIP = ("max_epochs = 2", "max_epochs = 2\nclip_grad_norm_value = 0.01")


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(state):
    return {name: state[name] for name in ("model", "optimizer", "rng", "progress")}


@pytest.mark.parametrize("text", [TOML, FLOAT16])
def test_a_fused_run_is_resumed_to_the_last_bit(tmp_path, text):
    tiny = TinyExperiment(tmp_path)
    whole = tiny.run(AMP, CLIP, FUSED, text=text, name="whole")
    tiny.run(AMP, ("max_epochs = 2", "max_epochs = 1\nclip_grad_norm_value = 0.01"), FUSED, text=text)
    assert difference(trained(tiny.run(AMP, CLIP, FUSED, text=text, resume=True)), trained(whole)) is None
    assert whole["optimizer"]["param_groups"][0]["fused"] is True
    other = tiny.run(AMP, CLIP, text=text, name="other")
    for name, weight in whole["model"].items():
        torch.testing.assert_close(weight, other["model"][name], rtol=1e-4, atol=1e-6)
    unclipped = tiny.run(AMP, FUSED, text=text, name="unclipped")
    assert difference(unclipped["optimizer"], whole["optimizer"])


def test_a_resumed_run_can_change_to_a_fused_optimizer(tmp_path):
    tiny = TinyExperiment(tmp_path)
    expected = tiny.run(name="whole")
    tiny.run(("max_epochs = 2", "max_epochs = 1"))
    state = tiny.run(FUSED, resume=True, allow_drift=True)
    assert state["optimizer"]["param_groups"][0]["fused"] is True
    for name, weight in expected["model"].items():
        torch.testing.assert_close(state["model"][name], weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("fused", "shown"), [(0.001, True), (0.0039, False)])
def test_check_build_says_where_a_fused_step_is_faster(tmp_path, monkeypatch, fused, shown):
    monkeypatch.setattr(fused_optimizers, "_step_times", lambda _: (0.004, fused))
    facts = dry_run(Experiment.load(TinyExperiment(tmp_path).write()))
    assert ("optimizer" in facts) == shown
    if shown:
        assert facts["optimizer"] == "4.0 ms a step; 0.2 of that with `fused = true` in [optimizer.args]"


def optimizer(make, **arguments):
    torch.manual_seed(0)
    network = nn.Linear(4, 2)
    network(torch.ones(1, 4)).sum().backward()
    return make(network.parameters(), lr=0.1, **arguments)


def test_measuring_changes_no_weights_and_no_state(one_thread):
    adam = optimizer(torch.optim.Adam, weight_decay=0.1)
    before = [weight.clone() for weight in adam.param_groups[0]["params"]]
    plain, fused = fused_optimizers._step_times(adam)
    assert plain > 0
    assert fused > 0
    assert all(torch.equal(*pair) for pair in zip(adam.param_groups[0]["params"], before, strict=True))
    assert not adam.state


class Forwards(torch.optim.Adam):
    def __init__(self, params, **kwargs):
        super().__init__(params, **kwargs)


class Needs(torch.optim.Adam):
    def __init__(self, params, wanted, **kwargs):
        super().__init__(params, **kwargs)


def test_class_that_passes_its_arguments_to_adam_is_measured(one_thread):
    assert fused_optimizers._step_times(optimizer(Forwards, weight_decay=0.1)) is not None


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (torch.optim.RMSprop, {}),
        (Needs, {"wanted": 1}),
        (torch.optim.Adam, {"fused": True}),
        (torch.optim.Adam, {"fused": False}),
        (torch.optim.SGD, {"foreach": True}),
    ],
)
def test_nothing_is_reported_without_a_choice_or_after_a_choice(make, arguments):
    assert fused_facts({"": optimizer(make, **arguments)}) == {}
