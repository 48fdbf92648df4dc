from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from audiozen_plugins.kernels.on_cpu import CpuKernel

Compute = Callable[..., Any]
CompareForms = Callable[..., None]


@pytest.fixture
def kernel_calls(monkeypatch) -> list[str]:
    """The names of the kernels that are called."""
    pytest.importorskip("numba")
    names: list[str] = []
    call = CpuKernel.__call__

    def counted(kernel: CpuKernel, *args: Any) -> Any:
        names.append(kernel.function.__name__)
        return call(kernel, *args)

    monkeypatch.setattr(CpuKernel, "__call__", counted)
    return names


def results(compute: Compute, tensors: list[Tensor]) -> list[Tensor]:
    """Returns what `compute` returns, and the gradients of a random sum of it."""
    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    outputs = compute(*tensors)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    generator = torch.Generator().manual_seed(1)
    total = sum((out * torch.randn(out.shape, generator=generator, dtype=torch.float64)).sum() for out in outputs)
    return [*outputs, *torch.autograd.grad(total, tensors)]


@pytest.fixture
def compare_forms(kernel_calls) -> CompareForms:
    """Compares the kernel with the plain form in double precision: values and gradients."""

    def compare(compute: Compute, tensors: list[Tensor]) -> None:
        fused = results(compute, tensors)
        assert kernel_calls
        kernel_calls.clear()
        plain = results(compute, [tensor.double() for tensor in tensors])
        assert not kernel_calls
        for ours, expected in zip(fused, plain, strict=True):
            assert ours.dtype == torch.float32
            scale = max(1.0, float(expected.detach().abs().max()))
            torch.testing.assert_close(ours.double(), expected, rtol=0, atol=5e-6 * scale)

    return compare
