"""Checks and converts the scalars that user code returns: training steps, methods of the trainer, and hooks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from audiozen_core.diagnostics.listed import listed


class ReadOnlyScalars(dict[str, float]):
    """A read-only dict of scalars. All hooks get the same dict, so a change would affect the other hooks."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "these scalars are read-only, because other hooks get them, too: change a copy, `dict(metrics)`"
        )

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse


def as_scalar(value: Any) -> Any:
    """Converts a number to a float. Returns None if the value is not a number.

    A number is a real number of Python or NumPy, or a tensor or an array with one real element. A boolean is not a
    number. A tensor is returned unchanged, because reading it could make the program wait for the GPU. A number that is
    too large for a float becomes infinite.

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
    # Torch and NumPy are not imported here, so that the command line starts quickly.
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
    except OverflowError:  # integers and fractions have no upper limit in Python
        return math.inf if value > 0 else -math.inf


def as_scalars(result: object) -> dict[str, Any] | str:
    """Returns the scalars in the result of a method or a hook, by name; if the result is invalid, an error message."""
    if not isinstance(result, Mapping):
        return f"returned {form_of(result)}, which is not a dict of numbers"
    scalars = {str(name): as_scalar(value) for name, value in result.items()}
    wrong = [f"`{name}` is {form_of(value)}" for name, value in result.items() if scalars[str(name)] is None]
    return f"returned values that are not numbers: {listed(wrong)}" if wrong else scalars


def form_of(value: object) -> str:
    """Describes the type and shape of a value for messages.

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
    # The dtype is shown, because without it, a tensor with one boolean or complex element would look like a valid
    # number.
    dtype = str(getattr(value, "dtype", "")).removeprefix("torch.")
    if of_shape and dtype.startswith(("bool", "complex")):
        of_shape += f" of {dtype}"
    return f"{'an' if kind[:1] in 'AEIOUaeiou' else 'a'} {kind}{of_shape}"
