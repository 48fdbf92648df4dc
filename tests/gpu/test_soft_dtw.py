"""Soft-DTW on a GPU gives the values and gradients of the CPU. Without a GPU, these tests skip."""

import pytest
import torch

from audiozen_plugins.kernels.soft_alignment_op import has_kernel
from audiozen_plugins.loss import soft_dtw
from audiozen_plugins.loss.soft_dtw import SoftDTWLoss

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def results(loss, sides, device):
    sides = [side.to(device).requires_grad_() for side in sides]
    value = loss(*sides)
    return [each.detach().cpu() for each in (value, *torch.autograd.grad(value, sides))]


def sequences(frames, frames2, *, batch=3, features=20, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, count, features, generator=generator, dtype=dtype) for count in (frames, frames2)]


@pytest.mark.parametrize("radius", [None, 30])
@pytest.mark.parametrize(("frames", "frames2"), [(1, 1), (1, 9), (9, 1), (200, 300), (300, 200), (1500, 1400)])
def test_the_kernel_gives_the_same_as_the_cpu(frames, frames2, radius):
    assert has_kernel(torch.device("cuda")), "Triton is missing"
    sides = sequences(frames, frames2)
    loss = SoftDTWLoss(0.5, radius)
    for one, other in zip(results(loss, sides, "cuda"), results(loss, sides, "cpu"), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_a_step_does_not_wait_and_a_nan_reaches_the_loss():
    sides = [side.cuda().requires_grad_() for side in sequences(40, 50, dtype=torch.float32)]
    loss = SoftDTWLoss(0.5)
    loss(*sides).backward()  # compiles the kernel
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss(*sides).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    sides[1].data[0, 2, 1] = float("nan")
    assert loss(*sides).isnan()


def test_another_gamma_gives_something_else():
    sides = sequences(200, 300)
    on_gpu, on_cpu = results(SoftDTWLoss(0.5), sides, "cuda"), results(SoftDTWLoss(0.6), sides, "cpu")
    assert (on_gpu[1] - on_cpu[1]).abs().max() > 1e-4


def test_single_precision_gives_the_same_as_the_cpu():
    sides = sequences(120, 130, dtype=torch.float32)
    on_gpu, on_cpu = results(SoftDTWLoss(), sides, "cuda"), results(SoftDTWLoss(), sides, "cpu")
    assert on_gpu[0].dtype == on_gpu[1].dtype == torch.float32
    for one, other in zip(on_gpu, on_cpu, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_without_triton_the_plain_form_gives_the_same(monkeypatch):
    sides = sequences(60, 50)
    expected = results(SoftDTWLoss(band=20), sides, "cuda")
    monkeypatch.setattr(soft_dtw, "has_kernel", lambda device: False)
    monkeypatch.setattr(soft_dtw, "soft_alignment", None)
    for one, other in zip(results(SoftDTWLoss(band=20), sides, "cuda"), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_second_derivatives_are_those_of_the_cpu():
    sides = sequences(9, 11)

    def second(device):
        x, y = (side.to(device).requires_grad_() for side in sides)
        (first,) = torch.autograd.grad(SoftDTWLoss()(x, y), x, create_graph=True)
        return [each.cpu() for each in torch.autograd.grad(first.square().sum(), (x, y))]

    for one, other in zip(second("cuda"), second("cpu"), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_the_gradients_of_a_batch_do_not_depend_on_chance():
    sides = sequences(700, 600, batch=16)
    first, second = (results(SoftDTWLoss(), sides, "cuda") for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
