"""Converts the state of sharded networks. Checkpoints contain whole tensors, so they fit any number of ranks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from audiozen_core.data.tensors import map_tensors
from audiozen_core.distributed.ranks import Ranks
from audiozen_core.distributed.sharding import is_sharded, local_part, shard_like, whole_tensor


def gather_state(state: Any, ranks: Ranks) -> Any:
    """Gathers each sharded tensor of a state on the CPU of rank 0, one at a time. All ranks must call it.

    Args:
        state: the state, which must have the same form on all ranks.
        ranks: the processes of the run.

    Returns:
        The state with whole tensors on rank 0; the same values as in `state` on all other ranks.
    """
    gathered_tensors: dict[tuple[int, torch.Size], Tensor] = {}

    def whole(tensor: Tensor) -> Tensor:
        if not is_sharded(tensor):
            return tensor
        # A tied weight has several names, but must be a single tensor in the checkpoint too.
        key = local_part(tensor).untyped_storage().data_ptr(), tensor.shape
        if key in gathered_tensors and key[0]:
            return gathered_tensors[key]
        full = whole_tensor(tensor)
        gathered_tensors[key] = full.cpu() if ranks.is_main else tensor
        return gathered_tensors[key]

    with ranks.explained():
        return map_tensors(state, whole)


def sharded_as(value: Any, current: Any) -> Any:
    """Shards each tensor of a state like the tensor at the same place in the current state."""
    if isinstance(value, Tensor):
        return shard_like(value, current) if isinstance(current, Tensor) else value
    if isinstance(value, Mapping) and isinstance(current, Mapping):
        return {key: sharded_as(entry, current.get(key)) for key, entry in value.items()}
    if isinstance(value, list | tuple) and isinstance(current, list | tuple) and len(value) == len(current):
        return type(value)(sharded_as(*pair) for pair in zip(value, current, strict=True))
    return value


class ShardedOptimizer:
    """Saves and loads the state of an optimiser with sharded weights. It accepts states with whole tensors.

    Args:
        optimizer: the optimiser.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the optimiser."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> None:
        """Restores a state with whole or sharded tensors. A tensor with the shape of a weight is sharded like it."""
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        weight_of_number = dict(zip(numbers, weights, strict=False))
        state = {
            number: map_tensors(values, partial(shard_like, like=weight_of_number[number]))
            for number, values in state_dict["state"].items()
        }
        self.optimizer.load_state_dict({**state_dict, "state": state})
