"""Measures whether an optimiser would step faster on a CPU with `fused = true`, for `audiozen check --build`.

Without it, torch starts about ten operations for each weight tensor. With many small ones, as in networks for speech,
that takes several times as long as the arithmetic. Several threads can make a fused step many times slower on a busy
machine, because they wait for each other at each weight tensor. So it is measured.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from audiozen_core.kinds import section_name

_ROUNDS = 3
# With more weights, reading and writing them takes most of a step, and the copies would need much memory.
_MOST_WEIGHTS = 10_000_000
_WORTHWHILE = 0.77  # a fused step should take at most this share of the time


def fused_facts(optimizers: Mapping[str, Optimizer]) -> dict[str, str]:
    """Returns one line for each optimiser on a CPU that would be faster with `fused = true`, by its section.

    The optimisers and their weights stay as they are: copies of the weights take the steps.
    """
    facts = {}
    for suffix, optimizer in optimizers.items():
        section = section_name("optimizer", suffix)
        if times := _step_times(optimizer):
            seconds, fused = times
            if fused <= _WORTHWHILE * seconds:
                facts[section] = fused_fact(section, seconds, fused)
    return facts


def fused_fact(section: str, seconds: float, fused: float) -> str:
    """Says in words what `fused = true` gains.

    Example:
        >>> fused_fact("optimizer_g", 0.0042, 0.0008)
        '4.2 ms a step; 0.2 of that with `fused = true` in [optimizer_g.args]'
    """
    return f"{1e3 * seconds:.1f} ms a step; {fused / seconds:.1g} of that with `fused = true` in [{section}.args]"


def _step_times(optimizer: Optimizer) -> tuple[float, float] | None:
    """Returns the seconds of a step without and with `fused`; None if the optimiser can't choose."""
    make: Any = type(optimizer)
    taken = inspect.signature(make).parameters
    arguments = {name: value for name, value in optimizer.defaults.items() if name in taken}
    # Who has set `fused` or `foreach` has chosen.
    if not {"params", "fused"} <= set(taken) or arguments.get("fused") is not None or arguments.get("foreach"):
        return None
    weights = [weight for group in optimizer.param_groups for weight in group["params"] if weight.grad is not None]
    if not 0 < sum(weight.numel() for weight in weights) <= _MOST_WEIGHTS or not all(
        weight.is_cpu and weight.is_floating_point() for weight in weights
    ):
        return None
    del arguments["fused"]
    candidates = [make(_copies(weights), **arguments, **more) for more in ({}, {"fused": True})]
    seconds: list[list[float]] = [[], []]
    for turn in range(_ROUNDS + 1):
        for candidate, found in zip(candidates, seconds, strict=True):
            started = time.perf_counter()
            candidate.step()
            # The first step makes the state.
            if turn:
                found.append(time.perf_counter() - started)
    return min(seconds[0]), min(seconds[1])


def _copies(weights: list[torch.Tensor]) -> list[torch.Tensor]:
    copies = [weight.detach().clone().requires_grad_() for weight in weights]
    for copy in copies:
        copy.grad = torch.ones_like(copy)
    return copies
