"""Kernels for the CPU, which numba compiles at their first call (extra `fast`)."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from functools import cached_property
from typing import Any


class CpuKernel:
    """A function over NumPy arrays that numba compiles when it is first called.

    Numba is imported then, not before, because it takes half a second. The machine code is kept beside the module, so
    a later process does not compile again.

    Args:
        function: what numba compiles. It may call other kernels.
        options: the options of `numba.njit`.
    """

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        self.function = function
        self.options = options

    @staticmethod
    def is_available() -> bool:
        """Whether numba is installed. Without it, callers use their plain form."""
        return importlib.util.find_spec("numba") is not None

    @cached_property
    def compiled(self) -> Callable[..., Any]:
        """The function as numba compiles it."""
        numba = importlib.import_module("numba")
        compiled: Callable[..., Any] = numba.njit(cache=True, nogil=True, **self.options)(self.function)
        return compiled

    def __call__(self, *args: Any) -> Any:
        """Calls the compiled function."""
        return self.compiled(*args)


def cpu_kernel(**options: Any) -> Callable[[Callable[..., Any]], CpuKernel]:
    """Marks a function as a kernel that numba compiles, with the options of `numba.njit`."""
    return lambda function: CpuKernel(function, **options)
