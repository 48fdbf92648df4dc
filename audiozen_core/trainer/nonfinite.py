"""Finds gradients and weights that are NaN or infinite, and names them in errors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from audiozen_core.distributed.ranks import ALONE, Ranks
from audiozen_core.distributed.sharding import is_sharded, local_part, whole_norms
from audiozen_core.errors import RunError
from audiozen_core.hooks.nonfinite import BatchLocation, NonFiniteError
from audiozen_core.kinds import section_name

_REAL = (torch.float32, torch.float64)
_FAR_FROM_INFINITE = 2**15  # half of the largest float16 number


class Weight(NamedTuple):
    """A weight, with the section of its module and its name in the module."""

    section: str
    name: str
    tensor: Tensor


def all_weights(modules: Mapping[str, nn.Module]) -> list[Weight]:
    """Returns all weights of the modules. The keys of `modules` are sections."""
    return [Weight(section, *named) for section, module in modules.items() for named in module.named_parameters()]


class GradientNorms:
    """Computes the norm of each weight's gradient on the device, without making the CPU wait.

    Args:
        weights: the weights, by the suffix of their network.
        ranks: the processes of the run. If weights are sharded, all ranks must measure together.
    """

    def __init__(self, weights: Mapping[str, Sequence[Weight]], ranks: Ranks = ALONE) -> None:
        self._weights = weights
        self._ranks = ranks
        self._tensors = tensors = [weight.tensor for of_suffix in weights.values() for weight in of_suffix]
        self._mixed = len({(tensor.device, tensor.dtype) for tensor in tensors}) > 1
        self._on_cpu = all(tensor.device.type == "cpu" and tensor.dtype in _REAL for tensor in tensors)
        self._found, self._one = torch.zeros(()), torch.ones(())

    def check(self) -> dict[str, MeasuredGradients]:
        """Returns the norms of the current gradients, or an empty dict if a quick check shows that all are finite.

        The quick check works only for plain gradients on a CPU. It is faster than the norms for a small network, and
        no slower for a large one. It calls the function that AMP's gradient scaler uses, with the scale 1, so that the
        gradients don't change.
        """
        if self._on_cpu:
            present = []
            for tensor in self._tensors:
                one = tensor.grad
                if one is None:
                    continue
                if type(one) is not Tensor or one.layout is not torch.strided or one.requires_grad:
                    return self.measure()
                present.append(one)
            torch._amp_foreach_non_finite_check_and_unscale_(present, self._found, self._one)
            if not self._found.item():
                return {}
            self._found.zero_()
        return self.measure()

    def measure(self) -> dict[str, MeasuredGradients]:
        """Returns the norms of the current gradients, by suffix. A network without gradients is left out."""
        measured = {}
        for suffix, weights in self._weights.items():
            owners, values, is_shared = [], [], False
            for weight in weights:
                gradient = weight.tensor.grad
                if gradient is not None:
                    owners.append(weight)
                    is_plain = type(gradient) is Tensor and not gradient.is_sparse
                    values.append(gradient if is_plain else _values_of(gradient))
                    is_shared = is_shared or (not is_plain and is_sharded(gradient))
            if values:
                norms = list(torch._foreach_norm(values))
                if self._mixed:
                    norms = [norm.to(norms[0].device, torch.float32) for norm in norms]
                if is_shared:
                    with self._ranks.explained():
                        norms = list(whole_norms(torch.stack(norms), self._ranks.size))
                measured[suffix] = MeasuredGradients(suffix, owners, norms)
        return measured


class MeasuredGradients:
    """The norms of one network's gradients.

    Args:
        suffix: the network.
        weights: the weights that have gradients.
        norms: the norm of the gradient of each of these weights, scalars on one device.
    """

    def __init__(self, suffix: str, weights: Sequence[Weight], norms: Sequence[Tensor]) -> None:
        self.suffix = suffix
        self.weights = weights
        self._norms = norms
        self._total: Tensor | None = None

    @property
    def single(self) -> Tensor:
        """The norm of the gradient of each weight [weights]."""
        return torch.stack(tuple(self._norms))

    @property
    def total(self) -> Tensor:
        """The norm of all gradients together, a scalar. It is computed on first access."""
        if self._total is None:
            self._total = torch.linalg.vector_norm(self.single)
        return self._total

    @property
    def is_on_gpu(self) -> bool:
        """Whether reading the norms makes the CPU wait."""
        return self._norms[0].is_cuda

    def complaint(self) -> str | None:
        """Describes the first problem, or returns None if all norms are finite. Waits for the GPU."""
        norms: list[float] = self.single.tolist() if self.is_on_gpu else [norm.item() for norm in self._norms]
        # If the total is far below the largest number of every dtype, it is finite on the device too. Then there is no
        # need to compute it there.
        if math.hypot(*norms) < _FAR_FROM_INFINITE or math.isfinite(float(self.total)):
            return None
        wrong = [(weight, norm) for weight, norm in zip(self.weights, norms, strict=True) if not math.isfinite(norm)]
        if not wrong:
            net = section_name("model", self.suffix)
            return f"the total norm of the gradients of [{net}] is infinite, although each gradient is finite"
        # Gradients flow from the loss to the input, so the last weight of the network got its gradient first.
        counted = f"{len(wrong)} of {len(norms)} are not finite; this one is closest to the loss"
        weight, norm = wrong[-1]
        return f"the gradient of `{weight.name}` of [{weight.section}] has the norm {norm} ({counted})"


def blame(modules: Mapping[str, nn.Module]) -> str:
    """Returns a note for the error of a non-finite loss, which says whether the weights were finite.

    Args:
        modules: the networks and losses by section.
    """
    for section, module in modules.items():
        if wrong := _first_not_finite(module):
            return f"note: the {wrong[0]} `{wrong[1]}` of [{section}] was already not finite"
    if any(is_sharded(weight) for module in modules.values() for weight in module.parameters()):
        return "note: this rank's share of the weights is finite"
    weights = [weight for module in modules.values() for _, weight in _floating(module.named_parameters())]
    largest = max((float(_largest(weight)) for weight in weights), default=0.0)
    return (
        f"note: all weights are finite, and their largest magnitude is {largest:.3g}; unless that is too large, the "
        "cause is in these samples or in the loss function"
    )


def check_weights(modules: Mapping[str, nn.Module], last_step: BatchLocation | None, ranks: Ranks = ALONE) -> None:
    """Checks that all weights are finite and that no buffer holds a NaN. Synchronises with the GPU once per module.

    Args:
        modules: the networks and losses by section.
        last_step: the batches of the last optimiser step, for the message; None before the first step.
        ranks: the processes of the run. If one rank finds an error, all ranks raise it.

    Raises:
        NonFiniteError: a weight is not finite or a buffer holds a NaN. The error names the first one.
        RunError: the same problem was found before the first step.
    """
    for section, module in modules.items():
        if wrong := ranks.first(_first_not_finite(module)):
            what = f"the {wrong[0]} `{wrong[1]}` of [{section}] is not finite"
            if last_step is None:
                raise RunError(
                    f"{what} before the first step of this run", remedy="check how the weights are created or loaded"
                )
            raise NonFiniteError(
                what,
                last_step,
                remedy="lower the learning rate or clip the gradients; the checkpoints are not affected",
                notes=["note: this was found when a checkpoint was due; an earlier step may have caused it"],
            )


def _first_not_finite(model: nn.Module) -> tuple[str, str] | None:
    """Returns the kind and the name of the first weight that is not finite, or of the first buffer with a NaN."""
    flags = {("weight", name): _largest(tensor).isfinite() for name, tensor in _floating(model.named_parameters())}
    # Infinities are allowed in buffers, because attention masks contain them on purpose.
    flags |= {("buffer", name): ~_largest(tensor).isnan() for name, tensor in _floating(model.named_buffers())}
    if not flags:
        return None
    device = next(iter(flags.values())).device
    if bool(torch.stack([flag.to(device) for flag in flags.values()]).all()):
        return None
    return next(place for place, flag in flags.items() if not flag)


def _floating(named: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Yields the non-empty tensors whose dtype can represent NaN."""
    for name, tensor in named:
        if (tensor.is_floating_point() or tensor.is_complex()) and tensor.numel() > 0:
            yield name, tensor


def _largest(tensor: Tensor) -> Tensor:
    """Returns the largest magnitude, on the device; NaN if the tensor has a NaN. A sum of squares could overflow."""
    values = _values_of(tensor.detach())
    if values.numel() == 0:  # a sparse tensor of zeros, or a sharded tensor of which this rank has no part
        return values.new_zeros(())
    largest: Tensor = torch.linalg.vector_norm(values.float() if values.element_size() == 1 else values, math.inf)
    return largest


def _values_of(tensor: Tensor) -> Tensor:
    """Returns the values of a tensor as a plain tensor.

    Returns the stored values of a sparse tensor, such as the gradient of `nn.Embedding(sparse=True)`, this rank's part
    of a sharded tensor, and any other tensor itself.
    """
    return tensor.coalesce().values() if tensor.is_sparse else local_part(tensor)
