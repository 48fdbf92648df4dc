"""Sparse gradients: handled like dense ones, and explained where an optimiser refuses them."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from audiozen_core.errors import RunError
from audiozen_core.hooks.marker import hookimpl
from audiozen_plugins.hooks.amp import Amp
from audiozen_plugins.hooks.clip_grad_norm import ClipGradNorm
from tests.tiny_training import TinyTrainer, make_loader, make_trainer, weights_of


class Net(nn.Module):
    """A linear layer, and a bias that is looked up."""

    def __init__(self, sparse, dense=True):
        super().__init__()
        self.bias = nn.Embedding(3, 1, sparse=sparse)
        self.linear = nn.Linear(4, 1) if dense else None

    def forward(self, x):
        bias = self.bias(x[:, 0].gt(0).long()) + self.bias(torch.zeros(len(x), dtype=torch.long))
        return bias if self.linear is None else self.linear(x) + bias


class Norms:
    phase = "monitor"

    def __init__(self):
        self.norms = []

    @hookimpl
    def on_optimizer_step_end(self, trainer):
        self.norms.append(float(trainer.grad_norm))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05)


def train(sparse, *, amp=False, cls=TinyTrainer, **options):
    norms = Norms()
    hooks = {"clip": ClipGradNorm(), "norms": norms} | ({"amp": Amp(dtype="float16", init_scale=64.0)} if amp else {})
    options = {"max_epochs": 2, "clip_grad_norm_value": 0.5, "plot_norm": True, "optimizer": sgd} | options
    trainer = make_trainer(cls=cls, model=lambda: Net(sparse), hooks=hooks, **options)
    if amp:
        trainer.use_amp = True
        trainer.hooks.autocast = lambda trainer: None  # the scaler alone, so that the losses are those of float32
    trainer.train(make_loader(20, batch_size=4))
    return trainer, norms


@pytest.mark.parametrize("options", [{}, {"amp": True}, {"gradient_accumulation_steps": 2}], ids=str)
def test_sparse_gradients_train_like_dense_ones(options):
    (sparse, of_sparse), (dense, of_dense) = train(True, **options), train(False, **options)
    torch.testing.assert_close(weights_of(sparse), weights_of(dense))
    assert of_sparse.norms == pytest.approx(of_dense.norms, rel=1e-5)
    assert max(of_sparse.norms) > 0.5  # the clipping had something to do


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.RMSprop])
def test_error_for_an_optimizer_that_refuses_names_the_weight_and_the_way_out(optimizer, amp):
    with pytest.raises(RunError, match=f"{optimizer.__name__} can't step") as error:
        train(True, amp=amp, optimizer=optimizer)
    assert "1 of 3 are sparse, such as the gradient of `bias.weight` of `model`" in error.value.notes[0]
    assert "torch.optim.SGD" in error.value.remedy
    assert "`sparse = false`" in error.value.remedy


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adagrad])
def test_weight_decay_is_named_if_it_is_the_cause(optimizer):
    with pytest.raises(RunError, match="can't step") as error:
        train(True, optimizer=functools.partial(optimizer, lr=0.05, weight_decay=0.1))
    assert "without `weight_decay` and `fused`" in error.value.remedy


def test_error_for_dense_gradients_with_sparse_adam():
    with pytest.raises(RunError, match="SparseAdam can't step") as error:
        train(False, optimizer=torch.optim.SparseAdam)
    assert "use torch.optim.Adam" in error.value.remedy
    with pytest.raises(RunError, match="SparseAdam can't step") as error:
        train(True, optimizer=torch.optim.SparseAdam)
    assert "2 of 3 are dense, such as the gradient of `linear.weight`" in error.value.notes[1]


@pytest.mark.parametrize("suggested", [torch.optim.SGD, torch.optim.Adagrad, torch.optim.SparseAdam])
def test_suggested_optimizers_work(suggested):
    trainer = make_trainer(
        model=lambda: Net(True, dense=suggested is not torch.optim.SparseAdam), optimizer=suggested, max_epochs=2
    )
    before = trainer.model.bias.weight.detach().clone()
    trainer.train(make_loader())
    assert not torch.equal(before, trainer.model.bias.weight)


def test_other_errors_of_an_optimizer_are_explained_too():
    class Fails(torch.optim.SGD):
        def step(self, closure=None):
            raise RuntimeError("no such kernel")

    with pytest.raises(RunError, match="Fails can't step: RuntimeError: no such kernel") as error:
        make_trainer(optimizer=Fails).train(make_loader())
    assert "change the optimiser" in error.value.remedy
