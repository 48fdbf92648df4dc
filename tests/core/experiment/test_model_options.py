"""`compile` and `gradient_checkpointing` of a network change neither its results nor the names of its weights."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from audiozen_core.config.sections import ModelComponent
from audiozen_core.errors import BuildError, ConfigError
from audiozen_core.experiment.dry_run import dry_run
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.experiment.model_options import apply_options
from tests.core.checkpoint.exactness import difference
from tests.on_ranks import all_right, on_ranks
from tests.tiny_experiment import TinyExperiment

PARTS = """
CALLS = []


class Block(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.3))

    def forward(self, x, *, scale):
        CALLS.append(self.training)
        return super().forward(x) * scale


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x, scale=0.5)
        return self.head(x)
"""
LINEAR = 'path = "torch.nn.Linear"\nargs = {in_features = 4, out_features = 1}'
EAGER = 'compile = {backend = "eager"}'


def net(text=""):
    return LINEAR, f'path = "parts.Net"\n{text}'


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path, PARTS)


@pytest.mark.parametrize(
    ("patterns", "extra"),
    [
        ('"blocks.*"', ()),
        pytest.param('["blocks.0", "blocks.1.*"]', (), marks=pytest.mark.slow),
        pytest.param('"blocks.*"', (("[meta]", "[meta]\nuse_amp = true"),), marks=pytest.mark.slow),
    ],
)
def test_recomputed_network_is_trained_the_same_to_the_last_bit(tiny, patterns, extra):
    plain = tiny.run(net(), *extra, name="plain")
    state = tiny.run(net(f"gradient_checkpointing = {patterns}"), *extra)
    for owner in ("model", "optimizer", "scalars", "rng"):
        assert difference(plain[owner], state[owner], owner) is None


@pytest.mark.parametrize(("text", "calls"), [("", 2), ('gradient_checkpointing = "blocks.*"', 4)])
def test_block_is_computed_again_in_a_backward_pass_only(tiny, text, calls):
    trainer, loaders = tiny.build(net(text))
    made = trainer.model.blocks[0].forward
    module = type(trainer.model).forward.__globals__["CALLS"]
    batch = next(iter(loaders["train"][0].epoch(1)))
    losses, _ = trainer.forward_batch(batch, 0)
    trainer.backward_losses(losses)
    assert len(module) == calls, made
    module.clear()
    trainer.validate(loaders["validate"])
    assert module == [False] * 2 * 3


def test_gradients_of_several_losses_are_those_of_a_plain_network_although_buffers_change():
    """Spectral normalisation changes its buffers in each forward pass, and its weights depend on them."""

    def gradients(**options):
        torch.manual_seed(0)
        layers = spectral_norm(nn.Linear(4, 4)), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.5)
        model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(*layers))
        apply_options(ModelComponent(path="net", key=("model",), **options), model)
        first, second = model(torch.randn(5, 4)).sum(1).square().sum(), model(torch.randn(5, 4)).exp().sum()
        for loss in (first, second + first):
            loss.backward(retain_graph=True)
        return [weight.grad for weight in model.parameters()], list(model.buffers())

    plain, recomputed = gradients(), gradients(gradient_checkpointing="1")
    torch.testing.assert_close(recomputed, plain, rtol=0, atol=0)


@pytest.mark.slow
def test_compiled_network_has_the_names_and_results_of_a_plain_one(tiny):
    plain = tiny.run(net(), name="plain")
    assert difference(plain["model"], tiny.run(net(EAGER))["model"]) is None


@pytest.mark.slow
def test_compiled_network_may_recompute_blocks(tiny):
    plain = tiny.run(net(), name="plain")["model"]
    both = tiny.run(net(f'{EAGER}\ngradient_checkpointing = "blocks.*"'), name="both")["model"]
    assert list(both) == list(plain)
    assert all(both[name].allclose(value) for name, value in plain.items())
    assert "loss" in dry_run(Experiment.load(tiny.write(net(EAGER))))


def test_checkpointing_may_change_before_a_resume_and_compiling_is_drift(tiny, capsys):
    longer = ("max_epochs = 2", "max_epochs = 3")
    whole = tiny.run(net(), longer, name="whole")
    tiny.run(net())
    with pytest.raises(Exception, match="settings that affect training have changed"):
        tiny.run(net(EAGER), longer, resume=True)
    state = tiny.run(net('gradient_checkpointing = "blocks.*"'), longer, resume=True)
    assert difference(whole["model"], state["model"]) is None
    capsys.readouterr()
    tiny.run(net(EAGER), longer, modes=("test",))
    assert "other settings" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ('gradient_checkpointing = "block.*"', "`block.*` of `gradient_checkpointing`", "`blocks.*`"),
        ('compile = {backend = "inducter"}', "the backend `inducter`", "did you mean `inductor`?"),
        ('compile = {mod = "default"}', "unexpected keyword argument", "`mode`"),
        ('compile = {mode = "fast"}', "fast", "`mode`"),
    ],
)
def test_option_that_torch_or_the_network_does_not_allow_is_an_error_at_its_place(tiny, text, message, remedy):
    with pytest.raises(BuildError) as error:
        tiny.build(net(text))
    assert message in error.value.message
    assert remedy in error.value.remedy
    assert error.value.diagnostics[0].span


def test_option_of_a_wrong_type_is_found_without_building(tiny):
    with pytest.raises(ConfigError, match="compile"):
        Experiment.load(tiny.write(net('compile = "yes"')))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["data_parallel", "fully_sharded"])
def test_ranks_train_the_same_with_recomputed_blocks(tiny, strategy):
    section = ("[dataset]", f'[distributed]\nstrategy = "{strategy}"\n[dataset]')
    for name, text in (("plain", ""), ("again", 'gradient_checkpointing = "blocks.*"')):
        all_right(on_ranks(2, lambda rank, name=name, text=text: tiny.run(net(text), section, name=name) and None))
    assert difference(tiny.state("plain")["model"], tiny.state("again")["model"]) is None
