"""Public names on their way out: they work and warn for a minor version."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

_Callable = TypeVar("_Callable", bound=Callable[..., Any])

DEPRECATED: dict[str, str] = {}
"""Qualified name of what is deprecated, to the version that will not have it."""


def deprecated(*, removed_in: str, instead: str) -> Callable[[_Callable], _Callable]:
    """Marks a function or a method as deprecated: each call warns, once for each place that calls it.

    Args:
        removed_in: the version that will not have it, at least one minor version later.
        instead: what to use.

    Example:
        >>> @deprecated(removed_in="0.3", instead="`write_audio`")
        ... def save_wav(path): ...
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     save_wav("a.wav")
        >>> str(caught[0].message)
        '`save_wav` is deprecated and goes in AudioZEN 0.3; use `write_audio`'
    """

    def mark(function: _Callable) -> _Callable:
        message = f"`{function.__qualname__}` is deprecated and goes in AudioZEN {removed_in}; use {instead}"
        DEPRECATED[f"{function.__module__}.{function.__qualname__}"] = removed_in

        @functools.wraps(function)
        def warned(*args: Any, **kwargs: Any) -> Any:
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            return function(*args, **kwargs)

        return warned  # type: ignore[return-value]

    return mark
