"""Switches all kernels off, so that networks and losses compute with PyTorch alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# A plain variable, because `torch.compile` can't trace a `ContextVar`, and the backward pass may run in other threads.
_wanted = True


def kernels_are_wanted() -> bool:
    """Whether kernels may be used."""
    return _wanted


@contextmanager
def without_kernels() -> Iterator[None]:
    """Uses no kernel in the block, neither on the CPU nor on a GPU, in any thread.

    A backward pass must be in the block too: the kernel of a forward pass brings its own.
    """
    global _wanted  # noqa: PLW0603 - see there
    before, _wanted = _wanted, False
    try:
        yield
    finally:
        _wanted = before
