"""Freezes the weights of optimiser groups, for the whole training or until an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


@dataclass(frozen=True, slots=True)
class FrozenGroup:
    """Weights that keep their values.

    Attributes:
        weights: the weights.
        until: the first epoch that trains the weights, counted from 1; None if they are never trained.
    """

    weights: Sequence[nn.Parameter]
    until: int | None


class FrozenWeights:
    """Freezes weights, and unfreezes them when their epoch begins.

    Which weights are frozen depends only on the epoch, so checkpoints don't contain this information.

    If the weights of a normalisation layer with running statistics, such as batch normalisation, are frozen, the layer
    is in evaluation mode, so that its statistics keep their values too. A normalisation layer without weights counts as
    frozen if the module that contains it is frozen. All other modules are in training mode, so dropout in a frozen
    part stays active.

    Args:
        groups: the frozen weights.
    """

    def __init__(self, groups: Iterable[FrozenGroup] = ()) -> None:
        self._groups = tuple(groups)
        self._frozen: set[int] = set()

    def begin_epoch(self, epoch: int) -> None:
        """Freezes or unfreezes the weights of each group for an epoch, counted from 1."""
        self._frozen.clear()
        for group in self._groups:
            trains = group.until is not None and epoch >= group.until
            for weight in group.weights:
                weight.requires_grad = trains  # a lazy parameter has no method `requires_grad_`
            if not trains:
                self._frozen.update(map(id, group.weights))

    def hold_statistics(self, modules: Iterable[nn.Module]) -> None:
        """Switches normalisation layers with frozen weights to evaluation mode. Leaves all other modules unchanged."""
        if self._frozen:
            for module in modules:
                _hold_statistics(module, self._frozen, within=False)


def _hold_statistics(module: nn.Module, frozen: set[int], *, within: bool) -> None:
    """Switches frozen normalisation layers to evaluation mode. `within` is whether the parent module is frozen."""
    weights: list[Tensor] = list(module.parameters())
    if weights:
        within = all(id(weight) in frozen for weight in weights)
    if within and isinstance(module, _NormBase):
        module.eval()
    for child in module.children():
        _hold_statistics(child, frozen, within=within)
