"""What each module computes is what one finds by hand."""

import math

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from audiozen_core.replay.module_watch import TensorStatistics, watched


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.unused, self.last = nn.Linear(3, 4), nn.Linear(3, 3), nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return {"y": [self.last(torch.relu_(self.first(x))) * self.scale]}


def test_norms_and_gradients():
    torch.manual_seed(0)
    net, x = Net(), torch.randn(5, 3)
    with watched({"model": net}) as watch:
        hidden = net.first(x).detach()
        watch.rows.clear()
    with watched({"model": net}) as watch:
        loss = net(x)["y"][0].square().sum()
        watch.in_backward = True
        watch.scale = 2.0
        (2 * loss).backward()
    assert [row.name for row in watch.rows] == ["[model] first", "[model] last", "[model]"]
    first, last, whole = watch.rows
    assert first.activation.norm == pytest.approx(float(hidden.norm()))
    assert first.activation.largest == pytest.approx(float(hidden.abs().max()))
    assert first.activation.count == 20
    y = net(x)["y"][0].detach()
    # The gradient of the sum of squares, without the scale of the backward pass.
    assert whole.output_gradient.norm == pytest.approx(float((2 * y).norm()), rel=1e-5)
    weights = torch.cat([net.last.weight.grad.flatten(), net.last.bias.grad]) / 2
    assert last.weight_gradient.norm == pytest.approx(float(weights.norm()), rel=1e-5)
    assert last.weight_gradient.largest == pytest.approx(float(weights.abs().max()), rel=1e-5)
    assert whole.weight_gradient.count == 1  # its own, without those of its children
    assert watch.first_activation is watch.first_gradient is None
    assert not any(module._forward_hooks for module in net.modules())


def test_the_first_module_that_is_not_finite_is_marked():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1))
    net[1].weight.data[0, 0] = math.inf
    with watched({"model": net}) as watch:
        loss = net(torch.ones(2, 3)).sum()
        watch.in_backward = True
        loss.backward()
    assert watch.first_activation.name == "[model] 1"
    assert watch.rows[1].activation.not_finite == 2
    assert watch.first_gradient.name == "[model] 0"
    described = watch.rows[1].described()
    assert described["calls"] == 1
    assert described["activation"]["norm"] is not None  # of the finite values
    assert watch.rows[2].described()["activation"]["norm"] is None


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        return self.layer(checkpoint(self.layer, x, use_reentrant=False))


def test_several_calls_are_added_and_recomputation_is_not():
    net = Twice()
    with watched({"model": net}) as watch:
        loss = net(torch.ones(1, 2)).sum()
        watch.in_backward = True
        loss.backward()
    row = watch.rows[0]
    assert (row.name, row.calls, row.activation.count) == ("[model] layer", 2, 4)
    assert row.output_gradient is not None


def test_summaries_of_extremes():
    summary = TensorStatistics()
    summary.add(torch.tensor([3e38, 3e38]))
    assert summary.norm == pytest.approx(3e38 * math.sqrt(2))  # beyond float32
    summary.add(torch.empty(0))
    summary.add(torch.tensor([3 + 4j]))
    assert (summary.count, summary.largest) == (4, pytest.approx(3e38))
    half = TensorStatistics()
    half.add(torch.full((100_000,), 8.0, dtype=torch.float16))
    assert half.norm == pytest.approx(8 * math.sqrt(100_000), rel=1e-5)
    sparse = TensorStatistics()
    sparse.add(torch.sparse_coo_tensor([[0, 0]], [1.0, 2.0], (4,), check_invariants=True))
    assert (sparse.norm, sparse.count) == (3.0, 1)
    nothing = TensorStatistics()
    nothing.add(torch.tensor([math.nan, math.inf]))
    assert nothing.described() == {"norm": None, "max": None, "not_finite": 2, "count": 2}
