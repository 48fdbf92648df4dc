"""Checks of a trainer's arguments and of what its steps return, beyond what types can say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from torch import Tensor

from audiozen_core.errors import RunError

_Number = TypeVar("_Number", int, float, int | None, float | None)


def at_least(least: int, **argument: _Number) -> _Number:
    """The argument's value; None passes.

    Raises:
        RunError: the value is less than `least`, or not finite.

    Example:
        >>> at_least(1, patience=3)
        3
    """
    ((name, value),) = argument.items()
    if value is not None and not (value >= least and _is_finite(value)):
        raise RunError(
            f"`{name}` is {value}, but must be at least {least}, and finite", remedy=f"set {name} in [trainer.args]"
        )
    return value


def above(limit: float, **argument: float | None) -> float | None:
    """The argument's value; None passes.

    Raises:
        RunError: the value is not above `limit`, or not finite.

    Example:
        >>> above(0, clip_grad_norm_value=5)
        5
    """
    ((name, value),) = argument.items()
    if value is not None and not (value > limit and _is_finite(value)):
        raise RunError(f"`{name}` is {value}, but must be above {limit}", remedy=f"set {name} in [trainer.args]")
    return value


def _is_finite(value: float) -> bool:
    # An integer can be too large for a float, and `isfinite` would raise an error.
    return isinstance(value, int) or math.isfinite(value)


def check_loss(name: str, loss: object) -> None:
    """Refuses a loss that can't be back-propagated.

    Raises:
        RunError: the loss is not a real tensor of one element, or does not depend on any weight.
    """
    if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.is_complex():
        got = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise RunError(f"`{name}` is {got}", remedy="return a real tensor of one element, such as the mean")
    if not loss.requires_grad:
        raise RunError(
            f"`{name}` does not depend on any weight that is trained",
            remedy="look for a `detach()` or `no_grad()` between the model and the loss",
        )


def one_of(known: Sequence[str], **argument: str) -> None:
    """Refuses an unknown word.

    Raises:
        RunError: the value is not one of `known`.
    """
    ((name, value),) = argument.items()
    if value not in known:
        raise RunError(f"`{name}` is {value!r}", remedy=f"use one of {', '.join(known)} in [trainer.args]")
