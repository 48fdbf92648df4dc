"""Records what each module computes in a step: its outputs, and the gradients of its outputs and of its weights."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(slots=True)
class TensorStatistics:
    """Statistics of the values in some tensors.

    Attributes:
        norm: the Euclidean norm of the finite values.
        largest: the largest magnitude of the finite values.
        not_finite: the number of values that are NaN or infinite.
        count: the number of values, including NaN and infinite values.
    """

    norm: float = 0.0
    largest: float = 0.0
    not_finite: int = 0
    count: int = 0

    def add(self, tensor: Tensor, *, scale: float = 1.0) -> None:
        """Adds the values of a real or complex tensor, divided by `scale`."""
        values = tensor.detach()
        if values.is_sparse:
            values = values.coalesce().values()
        values = torch.view_as_real(values.resolve_conj()) if values.is_complex() else values
        values = values.float() if values.dtype not in (torch.float32, torch.float64) else values
        finite = values.isfinite()
        without_nonfinite = torch.where(finite, values, torch.zeros_like(values))
        largest = float(without_nonfinite.abs().max()) if values.numel() else 0.0
        # The values are scaled, because squares of large numbers would overflow.
        norm = largest * float(torch.linalg.vector_norm(without_nonfinite / largest)) if largest else 0.0
        self.norm = math.hypot(self.norm, norm / scale)
        self.largest = max(self.largest, largest / scale)
        self.not_finite += values.numel() - int(finite.sum())
        self.count += values.numel()

    def described(self) -> dict[str, Any]:
        """Returns the statistics as data for `json.dumps`. Norm and maximum are None if no value is finite."""
        has_finite = self.count > self.not_finite
        return {
            "norm": self.norm if has_finite and math.isfinite(self.norm) else None,
            "max": self.largest if has_finite and math.isfinite(self.largest) else None,
            "not_finite": self.not_finite,
            "count": self.count,
        }


@dataclass(slots=True)
class ModuleRow:
    """What a module computed.

    Attributes:
        name: the section and the name of the module, such as `[model] encoder.0`.
        kind: the class of the module.
        calls: how often the module was called.
        activation: statistics of the outputs of the module; None if the module was not called.
        output_gradient: statistics of the gradient of the loss with respect to these outputs; None if the loss does not
            depend on the outputs.
        weight_gradient: statistics of the gradients of the module's own weights, without the weights of its children;
            None if no weight has a gradient.
    """

    name: str
    kind: str
    calls: int = 0
    activation: TensorStatistics | None = None
    output_gradient: TensorStatistics | None = None
    weight_gradient: TensorStatistics | None = None

    def described(self) -> dict[str, Any]:
        """Returns the row as data for `json.dumps`."""
        data: dict[str, Any] = {"module": self.name, "class": self.kind, "calls": self.calls}
        for name in ("activation", "output_gradient", "weight_gradient"):
            summary: TensorStatistics | None = getattr(self, name)
            data[name] = summary.described() if summary else None
        return data


@dataclass(slots=True)
class ModuleWatch:
    """Records the modules of a step.

    Attributes:
        rows: the modules that were called, in the order in which they returned, and then other modules with weights. A
            module therefore comes after its children.
        first_activation: the first module with an output that was not finite; None if all outputs were finite.
        first_gradient: the first module, in the order of the backward pass, with an output gradient that was not
            finite; None if all gradients were finite.
        scale: the factor by which the loss was multiplied for the backward pass. Gradients are divided by this factor.
        in_backward: whether the backward pass has started.
    """

    rows: list[ModuleRow] = field(default_factory=list)
    first_activation: ModuleRow | None = None
    first_gradient: ModuleRow | None = None
    scale: float = 1.0
    in_backward: bool = False

    def note_output(self, row: ModuleRow, outputs: Any) -> None:
        """Adds the outputs of a module, and registers hooks that add the gradients of these outputs."""
        tensors = list(_tensors(outputs))
        # Modules under activation checkpointing compute their outputs again in the backward pass. The repeated outputs
        # are not recorded.
        if not self.in_backward:
            if not row.calls:
                self.rows.append(row)
            row.calls += 1
            row.activation = row.activation or TensorStatistics()
            for tensor in tensors:
                row.activation.add(tensor)
            if row.activation.not_finite and self.first_activation is None:
                self.first_activation = row
        for tensor in tensors:
            if tensor.requires_grad:
                note = functools.partial(self._note_gradient, row)
                tensor.register_hook(note)  # type: ignore[no-untyped-call]

    def _note_gradient(self, row: ModuleRow, gradient: Tensor) -> None:
        row.output_gradient = row.output_gradient or TensorStatistics()
        row.output_gradient.add(gradient, scale=self.scale)
        if row.output_gradient.not_finite and self.first_gradient is None:
            self.first_gradient = row

    def note_weights(self, row: ModuleRow, module: nn.Module) -> None:
        """Adds the gradients of a module's own weights."""
        gradients = [weight.grad for weight in module.parameters(recurse=False) if weight.grad is not None]
        if not gradients:
            return
        row.weight_gradient = TensorStatistics()
        for gradient in gradients:
            row.weight_gradient.add(gradient, scale=self.scale)
        if not row.calls:
            self.rows.append(row)


@contextmanager
def watched(modules: Mapping[str, nn.Module]) -> Iterator[ModuleWatch]:
    """Records a forward and a backward pass inside the block. The caller sets `in_backward` between the two passes.

    Args:
        modules: the networks and losses, by section.
    """
    watch = ModuleWatch()
    rows: list[tuple[ModuleRow, nn.Module]] = []
    handles = []
    for section, root in modules.items():
        for name, module in root.named_modules():
            row = ModuleRow(f"[{section}] {name}".rstrip(), type(module).__name__)
            rows.append((row, module))
            handles.append(module.register_forward_hook(_noting(watch, row)))
    try:
        yield watch
        for row, module in rows:
            watch.note_weights(row, module)
    finally:
        for handle in handles:
            handle.remove()


def _noting(watch: ModuleWatch, row: ModuleRow) -> Callable[[nn.Module, Any, Any], None]:
    return lambda module, inputs, outputs: watch.note_output(row, outputs)


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yields the floating-point and complex tensors in a value, at any depth."""
    if isinstance(value, Tensor):
        if value.is_floating_point() or value.is_complex():
            yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _tensors(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _tensors(entry)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from _tensors(vars(value) if hasattr(value, "__dict__") else ())
