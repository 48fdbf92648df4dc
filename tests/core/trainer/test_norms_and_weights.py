"""The norms of gradients, and the check of weights: any type and layout, and what the error names."""

import math

import pytest
import torch
from torch import nn

from audiozen_core.errors import RunError
from audiozen_core.hooks.nonfinite import BatchLocation, NonFiniteError
from audiozen_core.trainer.nonfinite import GradientNorms, all_weights, check_weights
from tests.core.trainer.test_nonfinite import two_layers

LAST_STEP = BatchLocation(9, 3, (0, 1), ("a", "b"))


def test_error_says_if_only_the_total_norm_is_infinite():
    model = nn.Linear(1, 1)
    model.weight.grad, model.bias.grad = torch.full((1, 1), 1.5e19), torch.full((1,), 1.5e19)
    measured = GradientNorms({"": all_weights({"model": model})}).measure()[""]
    assert measured.single.isfinite().all()
    assert "is infinite, although each gradient is finite" in measured.complaint()


def test_total_gradient_norm_equals_that_of_torch():
    model = two_layers()
    model(torch.ones(2, 4)).sum().backward()
    total = torch.nn.utils.get_total_norm([weight.grad for weight in model.parameters()])
    assert torch.equal(GradientNorms({"": all_weights({"model": model})}).measure()[""].total, total)


def test_weights_of_any_type_and_layout_can_be_checked():
    model = nn.BatchNorm1d(3)
    model.int8 = nn.Parameter(torch.ones(2, dtype=torch.int8), requires_grad=False)
    model.float8 = nn.Parameter(torch.ones(2).to(torch.float8_e4m3fn), requires_grad=False)
    model.complex = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    model.empty = nn.Parameter(torch.ones(0))
    model.large = nn.Parameter(torch.full((9,), 3e38))
    model.register_buffer("sparse", torch.zeros(2, 2).to_sparse())
    model.register_buffer("mask", torch.full((2, 2), -math.inf).triu(1))
    check_weights({"model": model}, LAST_STEP)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.bfloat16, torch.complex64, torch.float64], ids=str)
def test_the_error_names_the_first_weight_that_is_not_finite(dtype):
    model = two_layers()
    model[1].more = nn.Parameter(torch.tensor([1.0, math.nan]).to(dtype), requires_grad=False)
    with pytest.raises(NonFiniteError) as error:
        check_weights({"model_g": model}, LAST_STEP)
    message = "the weight `1.more` of [model_g] is not finite at step 9 (epoch 3, batches 0 to 1; samples: a, b)"
    assert error.value.message == message


def test_error_names_an_infinite_weight():
    model = two_layers()
    with torch.no_grad():
        model[1].bias[0] = -math.inf
    with pytest.raises(RunError, match=r"^error.*the weight `1.bias` of \[model\] is not finite before the first step"):
        check_weights({"model": model}, None)


def test_the_error_names_a_buffer_that_holds_a_nan():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    model[1].running_var[2] = math.nan
    with pytest.raises(NonFiniteError, match=r"the buffer `1.running_var` of \[model\] is not finite at step 9"):
        check_weights({"model": model}, LAST_STEP)


def test_sparse_gradients_are_measured_as_if_they_were_dense():
    norms = []
    for sparse in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(5, 3, sparse=sparse), nn.Linear(3, 1))
        model(torch.tensor([1, 1, 4])).square().sum().backward()
        assert model[0].weight.grad.is_sparse is sparse
        norms.append(GradientNorms({"": all_weights({"model": model})}).measure()[""].single)
    torch.testing.assert_close(*norms)
