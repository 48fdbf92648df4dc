"""Switches all kernels off, so that networks and losses compute with PyTorch alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# It is a module variable, because `torch.compile` can't trace a `ContextVar`, and because the backward pass may run in
# other threads.
_wanted = True


def kernels_are_wanted() -> bool:
    """Whether kernels may be used."""
    return _wanted


@contextmanager
def without_kernels() -> Iterator[None]:
    """Disables all kernels in the block, on the CPU and on GPUs, in all threads.

    The block must contain the forward and the backward pass. A forward pass that used a kernel also uses a kernel in
    its backward pass.
    """
    global _wanted  # noqa: PLW0603 - see its definition
    before, _wanted = _wanted, False
    try:
        yield
    finally:
        _wanted = before
