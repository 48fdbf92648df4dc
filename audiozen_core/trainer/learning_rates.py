"""Reads the learning rates of a run, for records and the console."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor
from torch.optim import Optimizer


class LearningRates:
    """Caches the learning rates of a run, because they are read after each optimiser step but seldom change.

    Args:
        optimizers: the optimisers by suffix.
    """

    def __init__(self, optimizers: Mapping[str, Optimizer]) -> None:
        self._optimizers = optimizers
        # The rates that `_cached` was made from; None if any of them is not a float.
        self._cached_rates: list[Any] | None = None
        self._cached: Mapping[str, float | Tensor] = {}

    def current(self) -> Mapping[str, float | Tensor]:
        """Returns the same as `learning_rates`. Returns the identical mapping until a rate changes."""
        rates = []
        for optimizer in self._optimizers.values():
            for group in optimizer.param_groups:
                rates.append(group.get("lr"))
        if self._cached_rates is None or rates != self._cached_rates:
            # A rate that is a tensor can be changed in place, so it is never taken from the cache.
            self._cached_rates = rates if all(type(rate) is float for rate in rates) else None
            self._cached = MappingProxyType(learning_rates(self._optimizers))
        return self._cached


def learning_rates(optimizers: Mapping[str, Optimizer]) -> dict[str, float | Tensor]:
    """Returns the current learning rate of each parameter group, by name.

    If an optimiser has one group, the rate is named `lr`, or `lr_g` for the suffix `g`. With several groups, the `name`
    of the group is appended, or its index if it has no name: `lr_0`, `lr_g_encoder`. If two groups would get the same
    name, the index is also appended: `lr_encoder_0`. Groups without a learning rate are left out. A rate that is a
    tensor is cloned but not read, because reading it would stall a GPU.

    Args:
        optimizers: the optimisers by suffix.

    Example:
        >>> import torch
        >>> weights = [{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)], "lr": 0.5, "name": "head"}]
        >>> learning_rates({"": torch.optim.SGD(weights, lr=0.1)})
        {'lr_0': 0.1, 'lr_head': 0.5}
    """
    rates: dict[str, float | Tensor] = {}
    for suffix, optimizer in optimizers.items():
        base = f"lr_{suffix}" if suffix else "lr"
        groups = optimizer.param_groups
        names = [str(group.get("name", index)) for index, group in enumerate(groups)]
        if len(set(names)) < len(names):
            names = [
                f"{group['name']}_{index}" if "name" in group else str(index) for index, group in enumerate(groups)
            ]
        for index, group in enumerate(groups):
            rate: Any = group.get("lr")
            if rate is not None:
                name = f"{base}_{names[index]}" if len(groups) > 1 else base
                rates[name] = rate.detach().clone() if isinstance(rate, Tensor) else float(rate)
    return rates
