"""Ranks that share the weights of networks train what one process trains, and resume one another's checkpoints."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from audiozen_core.audio.acoustics import declared_acoustics
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.data.loader import BatchLoader
from audiozen_core.data.tensors import map_tensors
from audiozen_core.distributed.join import joined_ranks
from audiozen_core.distributed.ranks import ALONE
from audiozen_core.distributed.settings import Distributed
from audiozen_core.distributed.sharding import (
    is_sharded,
    local_part,
    shard,
    shard_like,
    sharded_units,
    whole_tensor,
    whole_weights,
)
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.sharded_state import sharded_as
from audiozen_plugins.trainer.domains import ModelDomain, choose_domain
from tests.core.distributed.networks import Stack
from tests.core.distributed.test_data_parallel import assert_near, experiment, records, state_of
from tests.on_ranks import Failed, all_right, on_ranks

HOOKS = "tests.core.distributed.hooks"
SHARDED = Distributed(strategy="fully_sharded")
CPU = torch.device("cpu")


class OneNetwork(BaseTrainer):
    def training_step(self, batch, batch_idx):
        # Two calls of one network, which FSDP gathers twice.
        return self.model(batch["x"]).square().mean() + self.model(batch["x"] * 2).mean()


class CallsMethod(BaseTrainer):
    def training_step(self, batch, batch_idx):
        return self.model(batch["x"]).mean() + self.model.decode(torch.tanh(batch["x"].repeat(1, 1, 2))).square().mean()


class TwoNetworks(BaseTrainer):
    """An adversarial training, whose second network is trained in every other turn."""

    def training_step(self, batch, batch_idx):
        made = self.models["g"](batch["x"]).expand(-1, -1, 4)
        real, fake = self.models["d"](batch["x"]), self.models["d"](made)
        losses = {"loss_g": (fake - 1).square().mean()}
        if batch_idx % 2 == 0:
            detached = self.models["d"](made.detach())
            losses["loss_d"] = (real - 1).square().mean() + detached.square().mean()
        return losses


def build(ranks, networks, trainer=OneNetwork, *, hooks=(), optimizer=None, settings=SHARDED, **args):
    """Returns a trainer, whose networks are sharded if there are several ranks and the settings say so."""
    torch.manual_seed(0)
    models = {suffix: network() for suffix, network in networks.items()}
    if ranks.several and settings.strategy == "fully_sharded":
        for suffix, model in models.items():
            shard(model, f"[model_{suffix}]", ranks, settings, CPU)
    optimizer = optimizer or partial(torch.optim.SGD, lr=0.1, weight_decay=0.1, momentum=0.5)
    components = Components(
        models=models,
        optimizers={suffix: optimizer(model.parameters()) for suffix, model in models.items()},
        lifecycle=Lifecycle([Plugin(type(hook).__name__, hook) for hook in hooks]),
        ranks=ranks,
        distributed=settings,
    )
    return trainer(components, **{"max_epochs": 2, **args})


def loader(ranks, batch_size, count=21):
    samples = [{"x": torch.randn(3, 4, generator=torch.Generator().manual_seed(index))} for index in range(count)]
    return BatchLoader(samples, batch_size=batch_size, shuffle=True, share=(ranks.rank, ranks.size))


def weights_of(trainer):
    """Returns the whole weights. All ranks must call it."""
    named = (
        (f"{suffix}.{name}", weight)
        for suffix, net in trainer.models.items()
        for name, weight in net.named_parameters()
    )
    return {name: (whole_tensor(weight) if is_sharded(weight) else weight.detach()).tolist() for name, weight in named}


def in_ranks(size, function):
    """Calls `function(ranks)` in several processes."""

    def call(rank):
        with joined_ranks(SHARDED, "cpu") as ranks:
            return function(ranks)

    return on_ranks(size, call)


def assert_like_one(size, function):
    """Asserts that several ranks with batches of two end with the weights of one process with larger batches."""
    expected = function(ALONE, 2 * size)
    for found in all_right(in_ranks(size, lambda ranks: function(ranks, 2))):
        assert found.keys() == expected.keys()
        for name, weight in expected.items():
            torch.testing.assert_close(torch.tensor(found[name]), torch.tensor(weight), rtol=0, atol=1e-6, msg=name)
    return expected


SLOW = pytest.mark.slow


@pytest.mark.parametrize(("size", "window"), [pytest.param(2, 1, marks=SLOW), pytest.param(2, 3, marks=SLOW), (3, 2)])
def test_network_is_trained_like_in_one_process(size, window):
    def train(ranks, batch_size):
        trainer = build(ranks, {"": Stack}, gradient_accumulation_steps=window)
        trainer.train(loader(ranks, batch_size))
        assert ranks.size == 1 or all(map(is_sharded, trainer.model.parameters()))
        return weights_of(trainer)

    trained = assert_like_one(size, train)
    torch.manual_seed(0)
    before = {f".{name}": weight.tolist() for name, weight in Stack().named_parameters()}
    # Weight decay would have changed what is unused if it had a gradient of zero.
    assert {name for name in before if before[name] == trained[name]} == {".unused", ".frozen.weight", ".frozen.bias"}


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=SLOW)])
def test_two_networks_with_an_optimiser_each_are_trained_like_in_one_process(size):
    def train(ranks, batch_size):
        trainer = build(ranks, {"g": Stack, "d": Stack}, TwoNetworks, gradient_accumulation_steps=2)
        trainer.train(loader(ranks, batch_size))
        return weights_of(trainer)

    assert_like_one(size, train)


def test_methods_that_are_named_can_be_called_like_the_network():
    settings = Distributed(strategy="fully_sharded", forward_methods=["decode"])

    def train(ranks, batch_size, settings=settings):
        trainer = build(ranks, {"": Stack}, CallsMethod, settings=settings)
        trainer.train(loader(ranks, batch_size))
        return weights_of(trainer)

    assert_like_one(2, train)


class SkipOn:
    """Leaves out some batches of one rank."""

    def __init__(self, rank, batches):
        self.rank, self.batches = rank, batches

    @hookimpl.skip_batch
    def skip_batch(self, trainer, batch_idx):
        return True if trainer.ranks.rank == self.rank and batch_idx in self.batches else None


class FailingLoss:
    """Makes the weights of one rank infinite after a step."""

    @hookimpl.on_optimizer_step_end
    def on_optimizer_step_end(self, trainer, step):
        if step == 2 and trainer.ranks.rank == 1:
            local_part(trainer.model.layers[0][0].weight.detach())[0] = torch.inf


def test_rank_without_a_batch_takes_part_with_weight_zero():
    def train(ranks):
        trainer = build(ranks, {"": Stack}, hooks=[SkipOn(0, {1, 2})], max_epochs=1)
        trainer.train(loader(ranks, 2, count=12))
        return weights_of(trainer)

    class WithoutSkipped(OneNetwork):
        def training_step(self, batch, batch_idx):
            # Of each batch of four, the first two samples would be those of rank 0.
            return super().training_step({"x": batch["x"][2:] if batch_idx in (1, 2) else batch["x"]}, batch_idx)

    one = build(ALONE, {"": Stack}, WithoutSkipped, max_epochs=1)
    one.train(loader(ALONE, 4, count=12))
    expected = weights_of(one)
    for found in all_right(in_ranks(2, train)):
        for name, weight in expected.items():
            torch.testing.assert_close(torch.tensor(found[name]), torch.tensor(weight), rtol=0, atol=1e-6, msg=name)


ADAM = partial(torch.optim.AdamW, lr=0.01)


def state_after(trainer):
    """Returns the networks and optimisers in a checkpoint, with lists in place of tensors."""
    with trainer.checkpoint() as state:
        kept = {name: state[name] for name in state if name.startswith(("model", "optimizer"))}
        assert not trainer.ranks.is_main or "DTensor" not in repr(kept)
        return copy.deepcopy(kept) if trainer.ranks.is_main else None


def as_lists(state):
    found = []
    map_tensors(state, lambda tensor: found.append((list(tensor.shape), tensor.tolist())) or tensor)
    return found


@pytest.mark.parametrize(
    ("before", "after", "strategy"),
    [
        (2, 1, "fully_sharded"),
        pytest.param(2, 3, "fully_sharded", marks=SLOW),
        pytest.param(1, 2, "fully_sharded", marks=SLOW),
        pytest.param(2, 2, "data_parallel", marks=SLOW),
    ],
)
def test_checkpoint_is_restored_by_another_number_of_ranks(tmp_path, before, after, strategy):
    store = CheckpointStore(tmp_path / "checkpoints")

    def save(ranks):
        trainer = build(ranks, {"g": Stack, "d": Stack}, TwoNetworks, optimizer=ADAM)
        trainer.train(loader(ranks, 2))
        with trainer.checkpoint() as state:
            if ranks.is_main:
                store.save(state, epoch=2, step=1)
        return as_lists(state_after(trainer))

    def load(ranks):
        settings = Distributed(strategy=strategy)
        trainer = build(ranks, {"g": Stack, "d": Stack}, TwoNetworks, optimizer=ADAM, settings=settings)
        unlike = as_lists(state_after(trainer))
        trainer.load_checkpoint(store.load("latest", map_location=trainer.state_device).state)
        found = as_lists(state_after(trainer))
        trainer.max_epochs += 1
        trainer.train(loader(ranks, 2))
        return found, unlike

    saved = all_right(in_ranks(before, save))[0] if before > 1 else save(ALONE)
    found, unlike = all_right(in_ranks(after, load))[0] if after > 1 else load(ALONE)
    assert found == saved
    assert found != unlike
    assert len(found) > 100


@pytest.mark.slow
def test_resumed_run_is_the_same_to_the_last_bit(tmp_path):
    states = []
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
        tiny = experiment(tmp_path / name, batch_size=1).set("model", "tests.core.distributed.networks.Dropping")
        tiny.set("optimizer", "torch.optim.AdamW", lr=0.01).values["distributed"] = {"strategy": "fully_sharded"}
        if name == "stopped":
            tiny.add_hook(f"{HOOKS}.StopAt", step=3)
            all_right(on_ranks(2, lambda rank, tiny=tiny: tiny.run() and None))
            del tiny.values["hooks"][-1]
        resume = name == "stopped"
        all_right(on_ranks(2, lambda rank, tiny=tiny, resume=resume: tiny.run(resume=resume) and None))
        states.append((state_of(tmp_path / name), records(tmp_path / name)))
    (expected, lines), (found, others) = states
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert lines == others


@SLOW
def test_nan_on_one_rank_leaves_the_turn_out_and_clipping_and_scores_are_those_of_one_process(tmp_path):
    for name, size in (("one", 1), ("several", 2)):
        (tmp_path / name).mkdir()
        tiny = experiment(tmp_path / name, batch_size=4 // size, clip_grad_norm_value=0.05, plot_norm=True)
        tiny.values["distributed"] = {"strategy": "fully_sharded"}
        tiny.set("trainer", on_nonfinite="skip").add_hook(f"{HOOKS}.NanAt", batch_idx=0)
        if size == 1:
            tiny.run("train", "test")
        else:
            all_right(on_ranks(2, lambda rank, tiny=tiny: tiny.run("train", "test") and None))
    assert_near(state_of(tmp_path / "one"), state_of(tmp_path / "several"))
    for expected, found in zip(records(tmp_path / "one"), records(tmp_path / "several"), strict=True):
        assert found == pytest.approx(expected, abs=1e-6)


def test_weight_that_is_not_finite_on_one_rank_is_an_error_on_all():
    def train(ranks):
        trainer = build(ranks, {"": Stack}, hooks=[FailingLoss()], max_steps=2)
        trainer.train(loader(ranks, 2))
        with trainer.checkpoint():
            pass

    for result in in_ranks(2, train):
        assert isinstance(result, Failed)
        assert "the weight `layers.0.0.weight` of [model] is not finite" in result.args[0]


class Tied(nn.Module):
    """A network whose first and last layer share their weights."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
        self.layers[3].weight = self.layers[0].weight

    def forward(self, x):
        return self.layers(x)


def test_shared_weights_of_one_network_stay_shared_and_layers_are_units_of_their_own():
    def train(ranks, batch_size):
        trainer = build(ranks, {"": Tied}, max_epochs=1)
        trainer.train(loader(ranks, batch_size))
        assert trainer.model.layers[0].weight is trainer.model.layers[3].weight
        units = [name for name, part in trainer.model.named_modules() if part in sharded_units([trainer.model])]
        assert units == (["", "layers.1", "layers.2"] if ranks.several else [])
        with trainer.checkpoint() as state:
            weights = state["model"]
            same = weights["layers.0.weight"].data_ptr() == weights["layers.3.weight"].data_ptr()
            assert same or not ranks.is_main
        return weights_of(trainer)

    assert_like_one(2, train)


def test_each_rank_keeps_half_of_the_weights_and_of_the_state_of_the_optimiser():
    def kept(ranks):
        trainer = build(ranks, {"": lambda: nn.Sequential(*(nn.Linear(64, 64) for _ in range(4)))}, optimizer=ADAM)
        samples = [{"x": torch.ones(64)} for _ in range(4)]
        trainer.train(BatchLoader(samples, batch_size=1, share=(ranks.rank, ranks.size)))
        weights = list(trainer.model.parameters())
        moments = [state[name] for state in trainer.optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
        return [sum(local_part(tensor).nbytes for tensor in tensors) for tensors in (weights, moments)]

    whole = kept(ALONE)
    for share in all_right(in_ranks(2, kept)):
        assert share == [size // 2 for size in whole]


def test_one_process_trains_unsharded(tmp_path):
    states = []
    for name, strategy in (("plain", "data_parallel"), ("sharded", "fully_sharded")):
        (tmp_path / name).mkdir()
        tiny = experiment(tmp_path / name, batch_size=2)
        tiny.values["distributed"] = {"strategy": strategy}
        tiny.run()
        states.append(state_of(tmp_path / name))
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


class Spectral(Stack):
    domain = "spectrum"
    layout = "channels_last"
    acoustics = {"n_fft": 320, "win_length": 320, "hop_length": 160}  # noqa: RUF012


def declared_by_a_sharded_network(rank):
    with joined_ranks(SHARDED, "cpu") as ranks:
        model = Spectral()
        shard(model, "[model]", ranks, SHARDED, CPU)
        return type(model) is not Spectral, choose_domain(model, {}), declared_acoustics(model)


def test_sharded_network_declares_what_its_class_declares():
    wanted = True, ModelDomain("spectrum", "channels_last"), Spectral.acoustics
    assert all_right(on_ranks(2, declared_by_a_sharded_network)) == [wanted] * 2


def test_network_that_an_evaluation_does_not_call_is_trained_afterwards():
    def run(ranks):
        trainer = build(ranks, {"": Stack})
        with whole_weights([trainer.model]):
            whole = [is_sharded(weight) for weight in trainer.model.parameters()]
        trainer.train(loader(ranks, 4))
        return whole, weights_of(trainer)

    expected = build(ALONE, {"": Stack})
    expected.train(loader(ALONE, 8))
    for whole, weights in all_right(in_ranks(2, run)):
        assert not any(whole)
        for name, values in weights_of(expected).items():
            torch.testing.assert_close(torch.tensor(weights[name]), torch.tensor(values), rtol=0, atol=1e-6)


class Views(nn.Module):
    """A network that changes the output of its layers in place, which is a view."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Flatten(0, 1)) for _ in range(3))

    def forward(self, x):
        for layer in self.layers:
            before = x
            x = layer(x)
            x *= 2.0
            x = x.view_as(before)
        return x


def test_network_that_changes_views_of_its_layers_is_trained_like_in_one_process(recwarn):
    def train(ranks, batch_size):
        trainer = build(ranks, {"": Views})
        trainer.train(loader(ranks, batch_size))
        assert not [warning for warning in recwarn if "view tensor" in str(warning.message)]
        return weights_of(trainer)

    assert_like_one(2, train)


def test_state_of_a_hook_is_sharded_like_its_present_state_or_a_weight():
    def restore(ranks):
        trainer = build(ranks, {"": Stack})
        weights = dict(trainer.model.named_parameters())
        whole = {name: whole_tensor(weight) for name, weight in weights.items()}
        saved = {"average": {name: tensor * 2 for name, tensor in whole.items()}, "count": torch.tensor(3)}
        current = {"average": weights, "count": torch.tensor(0)}
        restored = sharded_as(saved, current)
        assert restored["count"] == 3
        for name, weight in weights.items():
            for tensor in (restored["average"][name], shard_like(saved["average"][name], weight)):
                assert tensor.to_local().shape == weight.to_local().shape
                assert torch.equal(whole_tensor(tensor), whole[name] * 2)
        return len(weights)

    assert all_right(in_ranks(2, restore)) == [17, 17]
