"""What sharding refuses: networks, methods, shared weights and training steps, before it gives wrong results."""

import pytest
import torch
import torch.distributed.fsdp  # here rather than in each of the processes
from torch import nn

from audiozen_core.distributed.ranks import Ranks
from audiozen_core.distributed.settings import Distributed
from audiozen_core.distributed.sharding import check_methods, check_sharing, shard
from audiozen_core.errors import BuildError
from tests.core.distributed.networks import Stack
from tests.core.distributed.test_data_parallel import experiment
from tests.core.distributed.test_sharded import CPU, SHARDED, CallsMethod, TwoNetworks, build, in_ranks, loader
from tests.on_ranks import Failed, on_ranks


def _with_scalar():
    network = nn.Linear(2, 2)
    network.gain = nn.Parameter(torch.tensor(1.0))
    return network


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (_with_scalar, "its weight `gain` has no dimension to be split"),
        (lambda: nn.LazyLinear(2), "its weight `weight` has no shape yet"),
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()), "its weight `1.weight` is of torch.float64"),
        (lambda: nn.Conv2d(2, 2, 3).to(memory_format=torch.channels_last), "its weight `weight` is not contiguous"),
        (lambda: nn.Sequential(nn.Embedding(2, 2, sparse=True)), "`0` makes sparse gradients"),
    ],
)
def test_network_that_cannot_be_sharded_is_refused(network, message):
    with pytest.raises(BuildError, match=message) as caught:
        shard(network(), "[model]", Ranks(0, 2), SHARDED, CPU)
    assert 'strategy = "data_parallel"' in str(caught.value.remedy)


def test_torch_that_cannot_leave_weights_out_is_refused(monkeypatch):
    monkeypatch.delattr(torch.distributed.fsdp.FSDPModule, "set_reduce_scatter_unused_params")
    with pytest.raises(BuildError, match=r"\[model\] can't be sharded by torch \d") as caught:
        shard(nn.Linear(2, 2), "[model]", Ranks(0, 2), SHARDED, CPU)
    assert "torch 2.13" in str(caught.value.remedy)


def test_weights_of_two_networks_and_unknown_methods_are_refused():
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    check_sharing({"model_a": first, "model_b": second})
    second.weight = first.weight
    with pytest.raises(BuildError, match=r"\[model_b\] can't be sharded: its weight `weight` is also `weight` of"):
        check_sharing({"model_a": first, "model_b": second})
    settings = Distributed(strategy="fully_sharded", forward_methods=["decode"])
    check_methods([first, Stack()], settings)
    with pytest.raises(BuildError, match="no network has the method `decode`"):
        check_methods([first], settings)


class DifferentLosses(TwoNetworks):
    def training_step(self, batch, batch_idx):
        losses = super().training_step(batch, 0)
        return losses if self.ranks.is_main else {"loss_g": losses["loss_g"]}


@pytest.mark.parametrize(
    ("trainer", "networks", "message"),
    [
        (CallsMethod, {"": Stack}, "weights of a sharded network were used while neither the network nor"),
        (DifferentLosses, {"g": Stack, "d": Stack}, "returned `loss_d` on some ranks, but not on rank 1"),
    ],
)
def test_training_step_that_sharded_networks_do_not_allow_is_an_error_on_all_ranks(trainer, networks, message):
    def train(ranks):
        build(ranks, networks, trainer).train(loader(ranks, 2))

    for result in in_ranks(2, train):
        assert isinstance(result, Failed)
        assert message in result.args[0]


def test_network_of_an_experiment_that_cannot_be_sharded_leaves_no_run(tmp_path):
    tiny = experiment(tmp_path, batch_size=2).set("model", "torch.nn.LazyLinear", out_features=65)
    tiny.values["distributed"] = {"strategy": "fully_sharded"}
    for result in on_ranks(2, lambda rank: tiny.run() and None):
        assert isinstance(result, Failed)
        assert "[model] can't be sharded: its weight `weight` has no shape yet" in result.args[0]
    assert not (tmp_path / "exp").exists()
