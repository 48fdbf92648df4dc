"""Lets a causal network process a signal in pieces, with the same output as for the whole signal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock, get_ident
from typing import Any

import torch
from torch import Tensor

# The `Past` whose `piece` block is running. It is a module variable, because `torch.compile` can't trace a
# `ContextVar`. Only one thread at a time may run such a block.
_current: Past | None = None
_lock = Lock()


class Past:
    """The states of the layers of a causal network at the end of a piece of a signal.

    A network whose layers `recall` and `keep` their states must have the attribute `carries_state = True`. This
    attribute promises that the output is the same, up to rounding, if a signal is passed in pieces (some frames in each
    call):

        past = Past()
        for piece in pieces:
            with past.piece():
                output = network(piece)

    The trainer `enhancement` enhances long files in this way. In all other cases, a network starts from its initial
    state.
    """

    def __init__(self) -> None:
        self._states: list[Any] = []
        self._place = 0
        self._thread = 0
        self._is_last = False

    @contextmanager
    def piece(self, *, is_last: bool = False) -> Iterator[None]:
        """Lets the layers that are called in this `with` block continue from the end of the previous piece.

        In the block, a compiled network runs without its compiled code, because it would be compiled again for each
        piece.

        Args:
            is_last: whether the signal ends with this piece, so that no states need to be kept.
        """
        global _current  # noqa: PLW0603 - see `_current`
        with _lock, _uncompiled():
            self._place, self._thread, self._is_last = 0, get_ident(), is_last
            _current = self
            try:
                yield
            finally:
                _current = None

    def _recall(self) -> Any:
        return self._states[self._place] if self._place < len(self._states) else None

    def _keep(self, state: Tensor | tuple[Tensor | int, ...]) -> None:
        if not self._is_last:
            kept = state.clone() if isinstance(state, Tensor) else state
            self._states[self._place : self._place + 1] = [kept]
        self._place += 1


def _uncompiled() -> AbstractContextManager[Any]:
    # `set_stance` imports the compiler, which takes much memory. It is used only if the compiler is imported already.
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def recall() -> Any:
    """Returns the state that the layer kept at the end of the previous piece; None at the start of a signal.

    Each `recall` must be followed by a `keep`, before the next `recall`. The layers must be called in the same order in
    each piece.
    """
    past = _current
    return past._recall() if past is not None and past._thread == get_ident() else None


def keep(state: Tensor | tuple[Tensor | int, ...]) -> None:
    """Keeps the state of the layer for the next piece. Outside of `Past.piece` this does nothing.

    Args:
        state: the state in any shape, such as the last state of a `torch.nn.GRU`.
    """
    past = _current
    if past is not None and past._thread == get_ident():
        past._keep(state)
