"""Soft-DTW equals two independent implementations in value and gradient, and handles edge cases.

The tests call the float64 kernels of both packages, because their `torch` modules round to float32.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from audiozen.loss import SoftDTWLoss
from audiozen_plugins.loss import soft_alignment, soft_dtw

GAMMAS = [1e-3, 1e-2, 0.1, 1.0, 10.0]
LENGTHS = [(12, 12), (9, 40), (40, 9), (1, 7), (7, 1), (1, 1), (33, 70)]


def sequences(
    frames: int, frames2: int, *, batch: int = 3, features: int = 5, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    torch.manual_seed(frames * 100 + frames2)
    estimate = torch.randn(batch, frames, features, dtype=torch.float64) * scale
    target = torch.randn(batch, frames2, features, dtype=torch.float64) * scale
    return estimate, target


def ours(estimate: Tensor, target: Tensor, gamma: float) -> tuple[float, Tensor, Tensor]:
    estimate, target = estimate.clone().requires_grad_(), target.clone().requires_grad_()
    loss = SoftDTWLoss(gamma)(estimate, target)
    loss.backward()
    return loss.item(), estimate.grad, target.grad


def by_tslearn(estimate: Tensor, target: Tensor, gamma: float) -> tuple[float, Tensor, Tensor]:
    from tslearn.metrics.softdtw_variants import SoftDTW, SquaredEuclidean

    values, gradients, gradients2 = [], [], []
    for x, y in zip(estimate.numpy(), target.numpy(), strict=True):
        there, back = SquaredEuclidean(x, y), SquaredEuclidean(y, x)
        alignment = SoftDTW(there, gamma=gamma)
        values.append(alignment.compute())
        visits = alignment.grad()
        gradients.append(there.jacobian_product(visits))
        gradients2.append(back.jacobian_product(visits.T))
    count = len(values)
    return float(np.mean(values)), torch.tensor(np.array(gradients)) / count, torch.tensor(np.array(gradients2)) / count


def by_pysdtw(estimate: Tensor, target: Tensor, gamma: float) -> tuple[float, Tensor, Tensor]:
    from pysdtw.sdtw_cpu import compute_softdtw, compute_softdtw_backward

    difference = estimate[:, :, None] - target[:, None]
    distance = difference.square().sum(-1).numpy()
    batch, frames, frames2 = distance.shape
    lengths = np.array([[frames, frames2]] * batch)
    costs = compute_softdtw(distance, lengths, gamma, 0.0)
    values = costs[:, frames, frames2].copy()
    visits = torch.tensor(compute_softdtw_backward(distance, costs, lengths, gamma, 0.0))
    gradient = 2 * visits[..., None] * difference / batch
    return float(values.mean()), gradient.sum(2), -gradient.sum(1)


# Compiling the second one takes as long as all other tests of this file.
@pytest.mark.parametrize("other", [by_tslearn, pytest.param(by_pysdtw, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "gamma", [gamma if gamma in (1e-3, 0.1, 10.0) else pytest.param(gamma, marks=pytest.mark.slow) for gamma in GAMMAS]
)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_value_and_gradient_agree_with_an_independent_implementation(other, gamma, lengths):
    pair = sequences(*lengths)
    value, gradient, gradient2 = ours(*pair, gamma)
    expected, expected_gradient, expected_gradient2 = other(*pair, gamma)
    assert value == pytest.approx(expected, abs=1e-8, rel=1e-12)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-8, rtol=0)
    torch.testing.assert_close(gradient2, expected_gradient2, atol=1e-8, rtol=0)


@pytest.mark.parametrize("other", [by_tslearn, pytest.param(by_pysdtw, marks=pytest.mark.slow)])
def test_another_gamma_does_not_agree_with_an_independent_implementation(other):
    pair = sequences(9, 40)
    value, gradient, _ = ours(*pair, 1.1)
    expected, expected_gradient, _ = other(*pair, 1.0)
    assert abs(value - expected) > 1e-2
    assert (gradient - expected_gradient).abs().max() > 1e-3


@pytest.mark.slow  # compiles `by_pysdtw`
def test_common_offset_does_not_reduce_precision():
    estimate, target = sequences(20, 30)
    expected = by_pysdtw(estimate, target, 0.01)
    value, gradient, _ = ours(estimate + 2.0**20, target + 2.0**20, 0.01)
    # adding the offset rounds the sequences, so this reference gets the same rounded ones
    rounded = by_pysdtw(estimate + 2.0**20, target + 2.0**20, 0.01)
    assert value == pytest.approx(rounded[0], abs=1e-8)
    torch.testing.assert_close(gradient, rounded[1], atol=1e-8, rtol=0)
    assert value == pytest.approx(expected[0], abs=1e-4)


def test_soft_dtw_approaches_dtw_as_gamma_approaches_zero():
    estimate, target = sequences(15, 20, batch=1)
    distance = (estimate[0, :, None] - target[0, None]).square().sum(-1)
    best = np.full((16, 21), math.inf)
    best[0, 0] = 0
    for i in range(15):
        for j in range(20):
            best[i + 1, j + 1] = distance[i, j] + min(best[i, j], best[i, j + 1], best[i + 1, j])
    assert SoftDTWLoss(1e-6)(estimate, target).item() == pytest.approx(best[-1, -1], abs=1e-3)


@pytest.mark.parametrize("gamma", [0.05, 1.0, 10.0])
@pytest.mark.parametrize("lengths", [(4, 6), (6, 4), (1, 3), (1, 1), (5, 5)])
def test_first_and_second_derivatives_pass_the_numerical_check(gamma, lengths):
    pair = tuple(side.requires_grad_() for side in sequences(*lengths, batch=2, features=2))
    assert gradcheck(SoftDTWLoss(gamma), pair)
    assert gradgradcheck(SoftDTWLoss(gamma), pair)


def test_derivatives_are_correct_across_blocks(monkeypatch):
    monkeypatch.setattr(soft_alignment, "BLOCK", 3)
    pair = tuple(side.requires_grad_() for side in sequences(8, 11, batch=2, features=2))
    assert gradcheck(SoftDTWLoss(0.5), pair)
    assert gradgradcheck(SoftDTWLoss(0.5), pair)


def test_second_derivatives_stay_finite_over_long_sequences():
    estimate, target = sequences(300, 900, batch=1, features=2)
    estimate.requires_grad_()
    (gradient,) = torch.autograd.grad(SoftDTWLoss(10.0)(estimate, target), estimate, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), estimate)
    assert second.isfinite().all()


def test_a_third_derivative_is_an_error():
    pair = tuple(side.requires_grad_() for side in sequences(4, 6))
    (first,) = torch.autograd.grad(SoftDTWLoss()(*pair), pair[0], create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), pair[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        second.sum().backward()


@pytest.mark.slow  # compiles `by_pysdtw`
def test_sequences_longer_than_a_gpu_block_are_aligned():
    estimate, target = sequences(3, 1500, batch=1)
    value, gradient, _ = ours(estimate, target, 1.0)
    expected, expected_gradient, _ = by_pysdtw(estimate, target, 1.0)
    assert value == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-8, rtol=1e-10)


def test_single_precision_is_rounded_only_at_the_end():
    pair = tuple(side.float() for side in sequences(60, 80, features=64, scale=10.0))
    value, gradient, _ = ours(*pair, 0.1)
    expected, expected_gradient, _ = ours(*(side.double() for side in pair), 0.1)
    assert gradient.dtype == torch.float32
    assert value == pytest.approx(expected, rel=1e-7)
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_the_loss_has_at_least_single_precision(given, expected):
    estimate, target = (side.to(given) for side in sequences(5, 6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = SoftDTWLoss()(estimate, target)
    assert loss.dtype == expected
    assert loss.item() == pytest.approx(SoftDTWLoss()(estimate.double(), target.double()).item(), rel=1e-6)


@pytest.mark.parametrize(
    ("estimate", "target", "problem"),
    [
        ((2, 5), (2, 5, 3), r"\[batch, frames, features\]"),
        ((2, 5, 3), (3, 5, 3), "same batch"),
        ((2, 5, 3), (2, 5, 4), "number of features"),
        ((2, 0, 3), (2, 5, 3), "at least one"),
        ((2, 5, 0), (2, 5, 0), "at least one"),
        ((0, 5, 3), (0, 5, 3), "at least one"),
    ],
)
def test_features_with_wrong_shapes_are_an_error(estimate, target, problem):
    with pytest.raises(ValueError, match=problem):
        SoftDTWLoss()(torch.ones(estimate), torch.ones(target))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_loss_is_nan_where_reading_the_input_would_wait(monkeypatch, bad, side):
    sides = [torch.randn(1, 8, 2, requires_grad=True), torch.randn(1, 6, 2, requires_grad=True)]
    plain = SoftDTWLoss(band=1)(*sides)
    gradients = torch.autograd.grad(plain, sides)
    monkeypatch.setattr(soft_dtw, "_reads_at_once", lambda device: False)
    value = SoftDTWLoss(band=1)(*sides)
    assert torch.equal(value, plain)
    assert all(map(torch.equal, torch.autograd.grad(value, sides), gradients))
    sides[side].data[0, 2, 1] = bad
    assert SoftDTWLoss(band=1)(*sides).isnan()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_error_names_the_input_that_is_not_finite(bad):
    target = torch.ones(1, 4, 2)
    target[0, 2, 1] = bad
    with pytest.raises(ValueError, match="the target contains NaN or infinity"):
        SoftDTWLoss()(torch.ones(1, 4, 2), target)


def test_integers_are_an_error():
    with pytest.raises(ValueError, match="real numbers"):
        SoftDTWLoss()(torch.ones(1, 4, 2), torch.ones(1, 4, 2, dtype=torch.long))


@pytest.mark.parametrize("gamma", [0.0, -1.0, math.inf, math.nan])
def test_a_wrong_gamma_is_an_error(gamma):
    with pytest.raises(ValueError, match="gamma"):
        SoftDTWLoss(gamma)


def test_a_wrong_band_is_an_error():
    with pytest.raises(ValueError, match="band"):
        SoftDTWLoss(band=-1)


def test_domain_of_the_loss_is_features():
    assert SoftDTWLoss.domain == "features"


@pytest.mark.parametrize("band", [45, 10**30])
def test_a_band_that_is_wider_than_both_sequences_leaves_nothing_out(band):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 20, 3, generator=generator), torch.rand(2, 25, 3, generator=generator)
    assert torch.equal(SoftDTWLoss(band=band)(x, y), SoftDTWLoss(band=44)(x, y))
    assert torch.allclose(SoftDTWLoss(band=band)(x, y), SoftDTWLoss()(x, y))
