"""The numbers among the results of other people's code: those of steps, of the ends of epochs, and of hooks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from audiozen_core.diagnostics.listed import listed


class ReadOnlyScalars(dict[str, float]):
    """The scalars that all hooks get. A hook that changed them would change what the others record."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "these scalars can't be changed, because other hooks get them too: change a copy, `dict(metrics)`"
        )

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse


def as_scalar(value: Any) -> Any:
    """Returns a value that `float` turns into a number without loss: a float, or a tensor of one real element.

    Returns None for any other value: not a real number (of Python or NumPy), and not a tensor or an array of one real
    element. A boolean is not a number. A tensor is returned as it is, because reading it could make a GPU wait. A
    number that is too large for a float becomes infinite.

    Example:
        >>> import numpy as np
        >>> [as_scalar(value) for value in (2, np.float32(0.5), np.ones((1, 1)), np.ones(2), "2", [2.0])]
        [2.0, 0.5, 1.0, None, None, None]
        >>> [as_scalar(value) for value in (-(10**400), True, np.array([False]))]
        [-inf, None, None]
    """
    if is_truth_value(value):
        return None
    if isinstance(value, Real):
        return _as_float(value)
    # This module does not import torch and NumPy, which the command line can do without.
    shape, item = getattr(value, "shape", None), getattr(value, "item", None)
    if not isinstance(shape, tuple) or not callable(item) or math.prod(shape) != 1:
        return None
    if hasattr(value, "is_complex"):
        return None if value.is_complex() else value
    number = item()
    return as_scalar(number) if isinstance(number, Real) else None


def is_truth_value(value: Any) -> bool:
    """Returns whether a value is a boolean, or a tensor or an array of booleans."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer or a fraction, which Python does not limit
        return math.inf if value > 0 else -math.inf


def as_scalars(result: object) -> dict[str, Any] | str:
    """Returns the scalars that a method or a hook has returned, by name; or what is wrong with its result, in words."""
    if not isinstance(result, Mapping):
        return f"returned {form_of(result)}, which is not a dict of numbers"
    scalars = {str(name): as_scalar(value) for name, value in result.items()}
    wrong = [f"`{name}` is {form_of(value)}" for name, value in result.items() if scalars[str(name)] is None]
    return f"returned values that are not numbers: {listed(wrong)}" if wrong else scalars


def form_of(value: object) -> str:
    """Says in a few words what a value is.

    Example:
        >>> import numpy as np
        >>> [form_of(value) for value in (None, "fine", (1.0, {}), np.array([True]))]
        ['None', 'a str', 'a tuple', 'a ndarray of shape [1] of bool']
    """
    if value is None:
        return "None"
    shape = getattr(value, "shape", None)
    kind = type(value).__name__
    of_shape = f" of shape {list(shape)}" if isinstance(shape, tuple) else ""
    # A tensor of one element would look like a number.
    dtype = str(getattr(value, "dtype", "")).removeprefix("torch.")
    if of_shape and dtype.startswith(("bool", "complex")):
        of_shape += f" of {dtype}"
    return f"{'an' if kind[:1] in 'AEIOUaeiou' else 'a'} {kind}{of_shape}"
