"""The fused GRU gives the values and the gradients of `torch.nn.GRU`."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call

from audiozen_plugins.kernels.gru import run_grus


def make_grus(count: int, inputs: int, units: int, *, bidirectional: bool = False) -> nn.ModuleList:
    torch.manual_seed(0)
    return nn.ModuleList(nn.GRU(inputs, units, bidirectional=bidirectional) for _ in range(count))


class Runner(nn.Module):
    def __init__(self, grus: nn.ModuleList, axis: int) -> None:
        super().__init__()
        self.grus, self.axis = grus, axis

    def forward(self, x, state):
        return run_grus(list(self.grus), x, state, self.axis)


# Sizes that 4 does and does not divide; fewer and more sequences than a tile has.
@pytest.mark.parametrize(
    ("count", "inputs", "units", "bidirectional", "shape", "axis"),
    [
        (2, 8, 4, True, (3, 7, 13), 1),
        (2, 8, 8, False, (2, 5, 33), 1),
        (1, 3, 5, False, (6, 2), 0),
        (1, 5, 2, True, (6, 4), 0),
    ],
)
def test_kernel_and_plain_form_agree(compare_forms, count, inputs, units, bidirectional, shape, axis):
    runner = Runner(make_grus(count, inputs, units, bidirectional=bidirectional), axis)
    names = [name for name, _ in runner.named_parameters()]
    sequences = shape[0] * shape[1] * (shape[2] if len(shape) == 3 else 1) // shape[axis]
    x, state = torch.randn(*shape, count * inputs), torch.randn(count * (1 + bidirectional), sequences, units)

    def compute(x, state, *weights):
        return functional_call(runner, dict(zip(names, weights, strict=True)), (x, state))

    compare_forms(compute, [x, state, *runner.parameters()])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_outputs_are_those_of_torch(kernel_calls, bidirectional):
    grus = make_grus(1, 6, 8, bidirectional=bidirectional)
    x = torch.randn(9, 40, 6)
    output, state = run_grus(list(grus), x)
    expected, last = grus[0](x)
    assert kernel_calls == ["forward"]
    torch.testing.assert_close(output, expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(state, last, rtol=0, atol=2e-6)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_grus_that_somebody_watches_are_called(kernel_calls, bidirectional, batch_first):
    grus, seen = make_grus(2, 4, 8, bidirectional=bidirectional), []
    x, state = torch.randn(3, 7, 5, 8), torch.randn(2 * (1 + bidirectional), 15, 8)
    expected, last = run_grus(list(grus), x, state, axis=1)
    assert kernel_calls
    kernel_calls.clear()
    for gru in grus:
        gru.batch_first = batch_first
    handle = grus[1].register_forward_hook(lambda gru, inputs, outputs: seen.append(outputs[1]))
    output, found = run_grus(list(grus), x, state, axis=1)
    assert not kernel_calls
    torch.testing.assert_close(output, expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(found, last, rtol=0, atol=2e-6)
    assert torch.equal(found.chunk(2)[1], *seen)
    handle.remove()
    run_grus(list(grus), x, state, axis=1)
    assert kernel_calls
    assert len(seen) == 1


def test_values_are_the_same_without_gradients(kernel_calls):
    grus = list(make_grus(2, 4, 4))
    x = torch.randn(5, 3, 8)
    with torch.inference_mode():
        output, _ = run_grus(grus, x)
    assert torch.equal(output, run_grus(grus, x)[0])


def test_a_nan_stays_in_its_sequence(kernel_calls):
    x = torch.randn(5, 3, 8)
    x[2, 1, 0] = float("nan")
    output, _ = run_grus(list(make_grus(1, 8, 4)), x)
    assert output[:2].isfinite().all()
    assert output[2:, 1].isnan().all()
    assert output[:, [0, 2]].isfinite().all()


def test_large_values_saturate(kernel_calls):
    grus = make_grus(1, 4, 4)
    x = torch.tensor([-1e30, -50.0, 50.0, float("inf")]).expand(4, 2, 4)
    torch.testing.assert_close(run_grus(list(grus), x)[0], grus[0](x)[0], rtol=0, atol=1e-6)


def test_second_derivatives_are_those_of_the_plain_form(kernel_calls):
    grus = list(make_grus(1, 4, 4))

    def second(x):
        (first,) = torch.autograd.grad(run_grus(grus, x)[0].square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), [x, *grus[0].parameters()])

    x = torch.randn(3, 2, 4, requires_grad=True)
    fused = second(x)
    assert "forward" in kernel_calls
    grus[0].double()
    for ours, expected in zip(fused, second(x.detach().double().requires_grad_()), strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reason", ["autocast", "double", "many units", "no numba"])
def test_the_plain_form_is_used_where_the_kernel_does_not_fit(kernel_calls, monkeypatch, reason):
    grus, x = make_grus(1, 4, 4), torch.randn(3, 2, 4)
    run_grus(list(grus), x)
    assert kernel_calls == ["forward"]
    if reason == "double":
        grus, x = grus.double(), x.double()
    if reason == "many units":
        grus = make_grus(1, 4, 68)
    if reason == "no numba":
        monkeypatch.setattr("audiozen_plugins.kernels.on_cpu.CpuKernel.is_available", lambda: False)
    with torch.autocast("cpu", enabled=reason == "autocast"):
        run_grus(list(grus), x)
    assert kernel_calls == ["forward"]
