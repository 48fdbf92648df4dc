"""Checks the scalars that a trainer returns at the end of an epoch or of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from audiozen_core.errors import RunError
from audiozen_core.hooks.scalars import as_scalar, as_scalars
from audiozen_core.trainer.part_errors import translate_step_errors


def scalars_of(
    method: Callable[..., Any], outputs: Any, *, may_be_score: bool = False, may_be_none: bool = False
) -> dict[str, float]:
    """Calls a method of a trainer with the results of all steps, and returns its scalars.

    Args:
        method: the method, such as `trainer.validation_epoch_end`.
        outputs: the argument of the method: the results of all steps.
        may_be_score: whether the method is allowed to return a single number, which is then named `score`.
        may_be_none: whether the method is allowed to return None, for no scalars.

    Raises:
        RunError: the method raised an error, or returned a value that is not a real number or a tensor or array with
            one real number.
    """
    with translate_step_errors(method):
        result = method(outputs)
        if result is None and may_be_none:
            return {}
        forms = ["a dict of numbers by name", *["the score alone"] * may_be_score, *["None"] * may_be_none]
        if may_be_score and (score := as_scalar(result)) is not None:
            return {"score": float(score)}
        scalars = as_scalars(result)
        if isinstance(scalars, str):
            raise RunError(f"{method.__qualname__} {scalars}", remedy=f"return {', or '.join(forms)}")
    return {name: float(value) for name, value in scalars.items()}


def add_prefix(prefix: str, scalars: Mapping[str, float | Tensor]) -> dict[str, float]:
    """Adds a prefix to the names of scalars, such as `train` in `train/loss`."""
    return {f"{prefix}/{name}": float(value) for name, value in scalars.items()}
