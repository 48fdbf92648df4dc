"""Averages the gradients of all ranks, with torch's `DistributedDataParallel`.

That class is usually wrapped around a network, and then knows only what the network's `forward` computes. Here it is
wrapped around a gate that a loss passes on its way from the training step to its backward pass. So a training step may
call any method of a network, call it several times, and use several networks; each network is averaged in the steps in
which it has a loss.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

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
    """The gates of all networks.

    Args:
        ranks: the processes of the run.
        settings: the section `[distributed]`.
    """

    def __init__(self, ranks: Ranks, settings: Distributed) -> None:
        self._ranks = ranks
        self._settings = settings
        self._gates: dict[str, DistributedDataParallel] = {}
        self._weights: dict[str, list[Tensor]] = {}

    def prepare(self, weights: Mapping[str, Sequence[Tensor]]) -> None:
        """Makes a gate for the weights of each suffix, if they are not those of its present gate.

        A new gate overwrites the weights with those of rank 0. All ranks must have the same weights to train.
        """
        for suffix, of_suffix in weights.items():
            trained = [weight for weight in of_suffix if weight.requires_grad]
            if self._is_same(self._weights.get(suffix, []), trained):
                continue
            self._weights[suffix] = trained
            self._gates.pop(suffix, None)
            if trained:
                self._gates[suffix] = self._gate(trained)

    @property
    def suffixes(self) -> list[str]:
        """The suffixes of the networks that have a gate."""
        return list(self._gates)

    def through(self, suffix: str, loss: Tensor) -> Tensor:
        """Passes a loss through the gate of a network. Its backward pass then averages the gradients of all ranks.

        The gradients that earlier backward passes have left in the weights are part of the average.
        """
        gate = self._gates.get(suffix)
        if gate is None:
            return loss
        with self._ranks.explained():
            passed: Tensor = gate(loss)
        return passed

    def join(self, suffix: str) -> None:
        """Takes part in the average of a network's gradients without a loss of its own."""
        if suffix in self._gates:
            nothing = sum((weight.sum().real for weight in self._weights[suffix]), start=torch.zeros(())) * 0
            with self._ranks.explained():
                torch.autograd.backward(self.through(suffix, nothing))

    @staticmethod
    def _is_same(before: Sequence[Tensor], now: Sequence[Tensor]) -> bool:
        return len(before) == len(now) and all(old is new for old, new in zip(before, now, strict=True))

    def _gate(self, weights: Sequence[Tensor]) -> DistributedDataParallel:
        with warnings.catch_warnings():
            # The gate has no buffers, so it makes no difference how they are handled.
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(
                _Gate(weights),
                broadcast_buffers=False,
                bucket_cap_mb=self._settings.bucket_cap_mb,
                find_unused_parameters=self._settings.find_unused_parameters,
                static_graph=self._settings.static_graph,
            )
