"""Averages the gradients of all ranks with torch's `DistributedDataParallel` (DDP).

DDP usually wraps a network, and then handles only the computations in the network's `forward`. Here, DDP wraps a gate:
an identity module that each loss passes through between the training step and the backward pass. So a training step can
call any method of a network, several times, and can use several networks. The gradients of a network are averaged in
every step in which the network has a loss.
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
    """An identity module for a loss, which holds the weights that the loss trains."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(weights)

    def forward(self, loss: Tensor) -> Tensor:
        return loss


class GradientSync:
    """Averages the gradients of all ranks, with one gate for each loss.

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
        """Creates the gate of a loss. Does nothing if its gate already has the same weights.

        All ranks must train the same weights.

        Args:
            name: the name of the loss.
            weights: the weights that an optimiser changes. Frozen weights among them are ignored.
        """
        trained = [weight for weight in weights if weight.requires_grad]
        if not _are_same(self._weights.get(name, []), trained):
            self._weights[name] = trained
            self._gates.pop(name, None)
            if trained:
                self._gates[name] = self._gate(trained)

    def pass_through_gate(self, name: str, loss: Tensor) -> Tensor:
        """Passes a loss through its gate. The backward pass then averages the gradients of all ranks.

        The average includes the gradients that earlier backward passes accumulated in the weights.
        """
        gate = self._gates.get(name)
        if gate is None:
            return loss
        with self._ranks.explained():
            passed: Tensor = gate(loss)
        return passed

    def average(self, name: str) -> None:
        """Averages the gradients that the ranks already have, when no loss passes through the gate.

        All ranks must call it.

        With `find_unused_parameters`, the gradient of a weight that no rank has used stays None. A gradient of zero
        would let weight decay change the weight.
        """
        weights = self._weights[name]
        used = self._ranks.gather([weight.grad is not None for weight in weights])
        if not self._settings.find_unused_parameters:
            used.append([True] * len(weights))
        averaged = [weight for weight, *flags in zip(weights, *used, strict=True) if any(flags)]
        if not averaged:
            return
        # A loss of zero that depends on the weights makes DDP average their gradients without changing them.
        zero_loss = sum((weight.sum().real for weight in averaged), start=torch.zeros(())) * 0
        with self._ranks.explained():
            torch.autograd.backward(self.pass_through_gate(name, zero_loss))

    def _gate(self, weights: Sequence[Tensor]) -> DistributedDataParallel:
        with warnings.catch_warnings():
            # The warning is about `broadcast_buffers`, which has no effect because the gate has no buffers.
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(
                _Gate(weights),
                broadcast_buffers=False,
                init_sync=False,  # a sync would change the weights between the forward and the backward pass
                bucket_cap_mb=self._settings.bucket_cap_mb,
                find_unused_parameters=self._settings.find_unused_parameters,
                static_graph=self._settings.static_graph,
            )


def _are_same(before: Sequence[Tensor], now: Sequence[Tensor]) -> bool:
    return len(before) == len(now) and all(old is new for old, new in zip(before, now, strict=True))
