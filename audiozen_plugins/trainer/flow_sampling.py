"""Solves the differential equation of a flow, from noise to speech."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

Sampler = Literal["euler", "midpoint", "heun"]

Velocity = Callable[[Tensor, float], Tensor]
"""Returns the velocity of a state at a time from 0 to 1."""


def sample(velocity: Velocity, state: Tensor, *, steps: int, sampler: Sampler) -> Tensor:
    """Follows the velocity from time 0 to time 1.

    Args:
        velocity: a function that returns the velocity of a state at a time.
        state: the state at time 0.
        steps: the number of steps of equal length, 1 or more.
        sampler: `euler` calls `velocity` once in each step. `midpoint` and `heun` call it twice, and their error falls
            with the square of the number of steps.

    Returns:
        The state at time 1.

    Raises:
        ValueError: `steps` is 0.

    Example:
        >>> import torch
        >>> one = torch.ones(1, dtype=torch.float64)
        >>> [float(sample(lambda state, time: state, one, steps=4, sampler=name)) for name in ("euler", "heun")]
        [2.44140625, 2.6948556900024414]
    """
    if steps < 1:
        raise ValueError(f"a sampler needs at least one step, not {steps}")
    length = 1 / steps
    for step in range(steps):
        time = step / steps
        first = velocity(state, time)
        if sampler == "midpoint":
            state = state + length * velocity(state + length / 2 * first, time + length / 2)
        elif sampler == "heun":
            second = velocity(state + length * first, (step + 1) / steps)
            state = state + length / 2 * (first + second)
        else:
            state = state + length * first
    return state
