"""Measures whether an optimiser would step faster on a CPU with `fused = true`, for `audiozen check --build`.

Without `fused`, torch starts about ten operations for each weight tensor. Networks for speech have many small tensors,
so starting the operations takes several times as long as the arithmetic. However, if torch uses several threads on a
busy machine, a fused step can be many times slower, because the threads wait for each other at each weight tensor.
Steps are therefore timed with and without `fused`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from audiozen_core.binding.signature import signature_of
from audiozen_core.kinds import section_name

_ROUNDS = 3
# With more weights, a step would spend most of its time on memory access, and the copies for the measurement would need
# much memory.
_MOST_WEIGHTS = 10_000_000
_WORTHWHILE = 0.77  # a fused step is recommended if it takes at most this share of the time of a normal step


def fused_facts(optimizers: Mapping[str, Optimizer]) -> dict[str, str]:
    """Returns one line for each optimiser that would be faster on the CPU with `fused = true`, by section.

    The steps are taken with copies of the weights. The optimisers and their weights do not change.
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
    """Describes the gain of `fused = true`.

    Args:
        section: the section of the optimiser.
        seconds: the time of a step without `fused`, in seconds.
        fused: the time of a step with `fused`, in seconds.

    Example:
        >>> fused_fact("optimizer_g", 0.0042, 0.0008)
        '4.2 ms a step; 0.2 of that with `fused = true` in [optimizer_g.args]'
    """
    return f"{1e3 * seconds:.1f} ms a step; {fused / seconds:.1g} of that with `fused = true` in [{section}.args]"


def _step_times(optimizer: Optimizer) -> tuple[float, float] | None:
    """Returns the seconds of a step without and with `fused`.

    Returns None if the optimiser has no argument `fused` or can't be made again from its defaults, if `fused` or
    `foreach` is already set, or if the weights are too many or not floating-point tensors on a CPU.
    """
    make: Any = type(optimizer)
    signature = signature_of(make)
    accepted = {each.name: each.default is each.empty for each in signature.parameters} if signature else {}
    arguments = {name: value for name, value in optimizer.defaults.items() if name in accepted}
    if not {name for name, is_required in accepted.items() if is_required} <= {"params", *arguments}:
        return None
    # If `fused` or `foreach` is set, the user has already chosen how to step.
    if not {"params", "fused"} <= accepted.keys() or arguments.get("fused") is not None or arguments.get("foreach"):
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
            # The first step is not counted, because it creates the state of the optimiser.
            if turn:
                found.append(time.perf_counter() - started)
    return min(seconds[0]), min(seconds[1])


def _copies(weights: list[torch.Tensor]) -> list[torch.Tensor]:
    copies = [weight.detach().clone().requires_grad_() for weight in weights]
    for copy in copies:
        copy.grad = torch.ones_like(copy)
    return copies
