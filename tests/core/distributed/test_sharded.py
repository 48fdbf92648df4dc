"""Ranks that share the weights of networks train what one process trains, and resume one another's checkpoints."""

from functools import partial

import pytest
import torch
import torch.distributed.fsdp  # here rather than in each of the processes

from audiozen_core.data.loader import BatchLoader
from audiozen_core.distributed.join import joined_ranks
from audiozen_core.distributed.ranks import ALONE
from audiozen_core.distributed.settings import Distributed
from audiozen_core.distributed.sharding import is_sharded, shard, whole_tensor
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.components import Components
from tests.core.distributed.networks import Stack
from tests.on_ranks import all_right, on_ranks

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


@pytest.mark.parametrize(("size", "window"), [(2, 1), (2, 3), (3, 2)])
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


@pytest.mark.parametrize("size", [2, 3])
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
