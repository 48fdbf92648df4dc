"""The kernels of soft-DTW give the same values and gradients as the plain form, and hold no matrix."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from audiozen_plugins.kernels import soft_alignment_on_cpu, soft_alignment_on_gpu, soft_alignment_op
from audiozen_plugins.kernels.band import Band
from audiozen_plugins.kernels.soft_alignment_band import NarrowBand
from audiozen_plugins.kernels.soft_alignment_op import soft_alignment, soft_alignment_backward
from audiozen_plugins.loss import soft_dtw
from audiozen_plugins.loss.soft_dtw import SoftDTWLoss, plain_cost

pytest.importorskip("numba")

SHAPES = [(1, 1), (1, 9), (9, 1), (47, 49), (48, 48), (49, 110), (110, 49), (97, 64)]
RADII = [None, 0, 2, 60]


def sequences(frames, frames2, *, batch=2, features=3, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(batch, count, features, generator=generator, dtype=dtype) for count in (frames, frames2))
    return x.requires_grad_(), y.requires_grad_()


def results(cost, *sides):
    """The costs, and the gradients of their weighted sum."""
    return cost, *torch.autograd.grad((cost * torch.arange(1, len(cost) + 1)).sum(), sides)


def of_kernel(kernel, x, y, gamma, radius):
    with torch.no_grad():
        cost, saved = kernel.forward(x, y, gamma, radius)
        assert saved.shape == kernel.saved_shape(len(x), x.shape[1], y.shape[1], radius)
        grad = torch.arange(1, len(cost) + 1, dtype=torch.float64)
        return cost, *kernel.backward(x, y, saved, grad, gamma, radius, (True, True))


def assert_same(kernel, frames, frames2, gamma, radius):
    sides = sequences(frames, frames2)
    expected = results(plain_cost(*sides, gamma, radius), *sides)
    for one, other in zip(of_kernel(kernel, *sides, gamma, radius), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("gamma", [0.001, 1.0, 30.0])
@pytest.mark.parametrize(("frames", "frames2"), SHAPES)
def test_the_kernel_for_the_cpu_equals_the_plain_form(frames, frames2, gamma, radius):
    assert_same(soft_alignment_on_cpu, frames, frames2, gamma, radius)


@pytest.mark.parametrize("radius", [0, 1, 2, 60, 61])
@pytest.mark.parametrize("gamma", [0.001, 1.0, 30.0])
@pytest.mark.parametrize(("frames", "frames2"), SHAPES)
def test_the_kernel_for_narrow_bands_equals_the_plain_form(frames, frames2, gamma, radius, monkeypatch):
    used = []
    monkeypatch.setattr(NarrowBand, "is_narrow", property(lambda narrow: not used.append(narrow.size)))
    assert_same(soft_alignment_on_cpu, frames, frames2, gamma, radius)
    assert used


@pytest.mark.parametrize(("frames", "frames2", "radius"), [(300, 310, 4), (1400, 1400, 79)])
def test_a_narrow_band_of_long_sequences_equals_the_plain_form(frames, frames2, radius):
    assert NarrowBand(Band(frames, frames2, radius)).is_narrow
    sides = sequences(frames, frames2, batch=1)
    expected = results(plain_cost(*sides, 100.0, radius), *sides)
    for one, other in zip(of_kernel(soft_alignment_on_cpu, *sides, 100.0, radius), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    # Another band gives another cost, so the band matters here.
    assert abs(soft_alignment(*sides, 100.0, radius + 1)[0] - expected[0]) > 1e-3


def test_only_narrow_bands_keep_weights():
    assert not NarrowBand(Band(48, 48, 2)).is_narrow  # the weights would be larger than half of a matrix
    assert not NarrowBand(Band(9000, 9000, 160)).is_narrow  # too many lanes
    assert NarrowBand(Band(9000, 9000, 159)).is_narrow
    batch, *sizes = soft_alignment_on_cpu.saved_shape(1, 1000, 1000, 51)
    assert batch == 1
    assert math.prod(sizes) * 8 < 1000 * 1000 * 4 / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("radius", [None, 4])
def test_gradients_have_the_dtype_of_the_sequences(dtype, radius):
    x, y = (side.detach().to(dtype).mT.contiguous().mT.requires_grad_() for side in sequences(200, 200))
    exact = [side.detach().double().requires_grad_() for side in (x, y)]
    for one, other in zip(
        of_kernel(soft_alignment_on_cpu, x, y, 1.0, radius)[1:],
        of_kernel(soft_alignment_on_cpu, *exact, 1.0, radius)[1:],
        strict=True,
    ):
        assert one.dtype == dtype
        torch.testing.assert_close(one, other.to(dtype))


@pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter would replace the kernel in this process")
@pytest.mark.parametrize("radius", [None, 1])
def test_the_kernel_for_the_gpu_equals_the_plain_form_in_the_interpreter(radius, monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(soft_alignment_on_gpu, "BLOCK", 4)
    monkeypatch.setattr(soft_alignment_on_gpu, "ROWS", 8)
    assert_same(soft_alignment_on_gpu, 11, 14, 1.0, radius)


@pytest.mark.parametrize("radius", [0, 1, 3, 50])
@pytest.mark.parametrize(("frames", "frames2"), [(1, 1), (6, 6), (4, 9), (9, 4), (1, 5)])
def test_a_band_has_the_cells_between_two_diagonals(frames, frames2, radius):
    below, above = min(0, frames2 - frames) - radius, max(0, frames2 - frames) + radius
    expected = [[below <= column - row <= above for column in range(frames2)] for row in range(frames)]
    band = Band(frames, frames2, radius)
    assert band.mask(torch.device("cpu")).tolist() == expected
    assert band.width >= max(map(sum, expected))


def test_a_banded_loss_equals_a_loop_over_the_cells_of_the_band():
    x, y = (side.detach() for side in sequences(40, 50, batch=1))
    best = {(-1, -1): 0.0}
    for row in range(40):
        for column in range(max(0, row - 3), min(50, row + 10 + 3 + 1)):
            before = [(row - 1, column - 1), (row - 1, column), (row, column - 1)]
            costs = torch.tensor([best.get(cell, math.inf) for cell in before], dtype=torch.float64)
            distance = (x[0, row] - y[0, column]).square().sum()
            best[row, column] = (distance - 0.5 * torch.logsumexp(-costs / 0.5, dim=0)).item()
    assert SoftDTWLoss(0.5, band=3)(x, y).item() == pytest.approx(best[39, 49], rel=1e-12)
    assert abs(SoftDTWLoss(0.5)(x, y).item() - best[39, 49]) > 1e-3


@pytest.mark.slow  # tslearn compiles its kernels
@pytest.mark.parametrize(("frames", "frames2"), [(40, 40), (35, 52)])
def test_a_banded_loss_equals_that_of_tslearn(frames, frames2):
    from tslearn.metrics import SoftDTWLossPyTorch, sakoe_chiba_mask

    mask = Band(frames, frames2, 3).mask(torch.device("cpu"))
    assert mask.tolist() == sakoe_chiba_mask(frames, frames2, 3).tolist()
    x, y = sequences(frames, frames2)
    loss = SoftDTWLossPyTorch(gamma=0.5, global_constraint="sakoe_chiba", sakoe_chiba_radius=3)(x, y).mean()
    ours = SoftDTWLoss(gamma=0.5, band=3)(x, y)
    assert ours.item() == pytest.approx(loss.item(), rel=1e-6)
    assert abs(ours.item() - SoftDTWLoss(gamma=0.5)(x, y).item()) > 1
    for one, other in zip(torch.autograd.grad(ours, (x, y)), torch.autograd.grad(loss, (x, y)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_band_that_holds_every_cell_changes_nothing():
    x, y = sequences(40, 50)
    assert SoftDTWLoss(band=50)(x, y).item() == SoftDTWLoss()(x, y).item()


@pytest.mark.parametrize("radius", [None, 2])
def test_both_forms_give_the_same_second_derivatives(radius, monkeypatch):
    sides = sequences(5, 7)

    def second():
        loss = SoftDTWLoss(0.5, radius)(*sides)
        (first,) = torch.autograd.grad(loss, sides[0], create_graph=True)
        return torch.autograd.grad(first.square().sum(), sides)

    by_kernel = second()
    monkeypatch.setattr(soft_dtw, "has_kernel", lambda device: False)
    for one, other in zip(by_kernel, second(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert by_kernel[0].abs().max() > 0.1


def test_the_gradient_of_the_gradient_follows_a_target_that_depends_on_the_estimate():
    x, _ = sequences(5, 5)
    assert torch.autograd.gradgradcheck(lambda x: SoftDTWLoss(0.5)(x, x.flip(1) * 2), x)


def test_without_numba_the_plain_form_computes_the_loss(monkeypatch):
    x, y = sequences(8, 9)
    expected = SoftDTWLoss()(x, y).item()
    monkeypatch.setattr(soft_alignment_on_cpu, "is_available", lambda: False)
    monkeypatch.setattr(soft_dtw, "soft_alignment", None)
    assert SoftDTWLoss()(x, y).item() == pytest.approx(expected, rel=1e-12)
    monkeypatch.undo()
    monkeypatch.setattr(soft_dtw, "plain_cost", None)
    assert SoftDTWLoss()(x, y).item() == expected


def test_no_kernel_is_used_on_another_device():
    assert soft_alignment_op.has_kernel(torch.device("cpu"))
    assert not soft_alignment_op.has_kernel(torch.device("meta"))


def test_what_is_kept_for_the_backward_pass_is_a_fraction_of_a_matrix():
    kept: list[Tensor] = []
    x, y = sequences(400, 400, dtype=torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        SoftDTWLoss()(x, y)
    matrix = 4 * len(x) * 400 * 400
    others = [tensor for tensor in kept if tensor.data_ptr() not in (x.data_ptr(), y.data_ptr())]
    assert 0 < sum(tensor.nbytes for tensor in others) < 0.15 * matrix


def test_a_band_computes_only_the_scores_of_its_strips():
    def cells(radius):
        x, y = sequences(640, 640)
        matrix = soft_alignment_on_cpu.Matrix(Band(640, 640, radius), x, y, 1.0)
        return sum(strip.scores.numel() for strip in matrix.strips)

    assert cells(None) == 640 * 640
    assert cells(32) < 0.18 * 640 * 640
    assert math.prod(NarrowBand(Band(640, 640, 32)).cells_shape) < 0.13 * 640 * 640


def test_only_the_needed_gradient_is_computed():
    x, y = sequences(6, 7)
    with torch.no_grad():
        cost, saved = soft_alignment(x, y, 1.0, None)
        grad_x, grad_y = soft_alignment_backward(x, y, saved, torch.ones_like(cost), 1.0, None, True, False)
    assert grad_x.shape == x.shape
    assert grad_y.numel() == 0
    SoftDTWLoss()(x, y.detach()).backward()
    torch.testing.assert_close(x.grad, grad_x / 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast_change_no_gradient(dtype):
    x, y = (side.detach().to(dtype) for side in sequences(20, 25))
    wanted = x.double().requires_grad_()
    SoftDTWLoss()(wanted, y.double()).backward()
    x.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        SoftDTWLoss()(x, y).backward()
    assert torch.equal(x.grad, wanted.grad.to(dtype))


@pytest.mark.parametrize("radius", [None, 3])
def test_the_operators_are_what_torch_expects(radius):
    x, y = (side.detach() for side in sequences(6, 8))
    torch.library.opcheck(soft_alignment, (x, y, 1.0, radius))
    cost, saved = soft_alignment(x, y, 1.0, radius)
    torch.library.opcheck(soft_alignment_backward, (x, y, saved, torch.ones_like(cost), 1.0, radius, True, True))


@pytest.mark.slow  # four seconds for torch.compile
def test_a_compiled_loss_gives_the_same():
    x, y = sequences(6, 8)
    compiled = torch.compile(SoftDTWLoss(), backend="aot_eager")
    expected = torch.autograd.grad(SoftDTWLoss()(x, y), (x, y))
    for one, other in zip(torch.autograd.grad(compiled(x, y), (x, y)), expected, strict=True):
        assert torch.equal(one, other)


def test_strided_sequences_give_the_same():
    x, y = sequences(40, 30)
    expected = of_kernel(soft_alignment_on_cpu, x, y, 1.0, None)
    strided = [side.detach().mT.contiguous().mT for side in (x, y)]
    assert not strided[0].is_contiguous()
    for one, other in zip(of_kernel(soft_alignment_on_cpu, *strided, 1.0, None), expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("scale", [1e-6, 1e3])
def test_very_small_and_large_distances_stay_accurate(scale):
    sides = [(side.detach() * scale).requires_grad_() for side in sequences(100, 80)]
    expected = results(plain_cost(*sides, 1.0, None), *sides)
    for one, other in zip(of_kernel(soft_alignment_on_cpu, *sides, 1.0, None), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-7 * scale)
