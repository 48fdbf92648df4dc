"""Averages the gradients of all ranks, with torch's `DistributedDataParallel`.

That class is usually wrapped around a network, and then knows only what the network's `forward` computes. Here it is
wrapped around a gate that a loss passes on its way from the training step to its backward pass. So a training step may
call any method of a network, call it several times, and use several networks; each network is averaged in the steps in
which it has a loss.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from audiozen_core.distributed.ranks import Ranks
from audiozen_core.distributed.settings import Distributed


class _Gate(nn.Module):
    """Passes a loss on, and has the weights that the loss trains."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(weights)

    def forward(self, loss: Tensor) -> Tensor:
        return loss


class GradientSync:
    """The gates of all losses.

    Args:
        ranks: the processes of the run.
        settings: the section `[distributed]`.
    """

    def __init__(self, ranks: Ranks, settings: Distributed) -> None:
        self._ranks = ranks
        self._settings = settings
        self._gates: dict[str, DistributedDataParallel] = {}
        self._weights: dict[str, list[Tensor]] = {}

    def prepare(self, name: str, weights: Sequence[Tensor]) -> None:
        """Makes a gate for the weights that a loss trains, if they are not those of its present gate.

        All ranks must have the same weights to train.

        Args:
            name: the name of the loss.
            weights: the weights that an optimiser changes. Frozen ones are left out.
        """
        trained = [weight for weight in weights if weight.requires_grad]
        if not _are_same(self._weights.get(name, []), trained):
            self._weights[name] = trained
            self._gates.pop(name, None)
            if trained:
                self._gates[name] = self._gate(trained)

    def through(self, name: str, loss: Tensor) -> Tensor:
        """Passes a loss through its gate. The backward pass then averages the gradients of all ranks.

        The gradients that earlier backward passes have left in the weights are part of the average.
        """
        gate = self._gates.get(name)
        if gate is None:
            return loss
        with self._ranks.explained():
            passed: Tensor = gate(loss)
        return passed

    def average(self, name: str) -> None:
        """Averages the gradients that the ranks have, without a loss. All ranks must call it.

        A weight that no rank has used keeps no gradient. With a gradient of zero, weight decay would change it.
        """
        weights = self._weights[name]
        used = self._ranks.gather([weight.grad is not None for weight in weights])
        if not self._settings.find_unused_parameters:
            used.append([True] * len(weights))
        joined = [weight for weight, *flags in zip(weights, *used, strict=True) if any(flags)]
        if not joined:
            return
        nothing = sum((weight.sum().real for weight in joined), start=torch.zeros(())) * 0
        with self._ranks.explained():
            torch.autograd.backward(self.through(name, nothing))

    def _gate(self, weights: Sequence[Tensor]) -> DistributedDataParallel:
        with warnings.catch_warnings():
            # The gate has no buffers, so it makes no difference how they are handled.
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(
                _Gate(weights),
                broadcast_buffers=False,
                init_sync=False,  # it would change the weights between the forward and the backward pass
                bucket_cap_mb=self._settings.bucket_cap_mb,
                find_unused_parameters=self._settings.find_unused_parameters,
                static_graph=self._settings.static_graph,
            )


def _are_same(before: Sequence[Tensor], now: Sequence[Tensor]) -> bool:
    return len(before) == len(now) and all(old is new for old, new in zip(before, now, strict=True))
