"""The learning rates of a run, for records and the console."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor
from torch.optim import Optimizer


class LearningRates:
    """The learning rates of a run, noted after each optimiser step, although they seldom change.

    Args:
        optimizers: the optimisers by suffix.
    """

    def __init__(self, optimizers: Mapping[str, Optimizer]) -> None:
        self._optimizers = optimizers
        self._noted: list[Any] = []
        self._named: Mapping[str, float | Tensor] = {}

    def now(self) -> Mapping[str, float | Tensor]:
        """Returns the present rates by name, as `learning_rates` does; the same mapping as long as none has changed."""
        present = [group.get("lr") for optimizer in self._optimizers.values() for group in optimizer.param_groups]
        # A tensor may have changed in place.
        if {*map(type, present)} != {float} or present != self._noted:
            self._noted, self._named = present, MappingProxyType(learning_rates(self._optimizers))
        return self._named


def learning_rates(optimizers: Mapping[str, Optimizer]) -> dict[str, float | Tensor]:
    """Returns the present learning rate of each parameter group.

    If an optimiser has one group, its rate is called `lr`, or `lr_g` for the suffix `g`. If it has several, the `name`
    of the group is added, or its index if it has no name: `lr_0`, `lr_g_encoder`. If two groups would get the same
    name, the index is added to the `name` as well: `lr_encoder_0`. A group without a learning rate is left out. A rate
    that is a tensor is copied and not read, because reading it would stall a GPU.

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
