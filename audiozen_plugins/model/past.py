"""The memory of a causal network between two pieces of a signal. Pieces then give the output of the whole."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock, get_ident
from typing import Any

import torch
from torch import Tensor

# A plain variable, because `torch.compile` can't trace a `ContextVar`. Only one thread at a time may have a value here.
_current: Past | None = None
_lock = Lock()


class Past:
    """The states of the layers of a causal network at the end of a piece of a signal.

    If the layers of a network `recall` and `keep` their states, the network has the attribute `carries_state = True`.
    The attribute promises that the output is the same, up to rounding, if the frames of a signal are passed in several
    calls:

        past = Past()
        for piece in pieces:
            with past.piece():
                output = network(piece)

    The trainer `enhancement` enhances long files in this way. Everywhere else a network starts from its initial state.
    """

    def __init__(self) -> None:
        self._states: list[Any] = []
        self._place = 0
        self._thread = 0

    @contextmanager
    def piece(self) -> Iterator[None]:
        """Lets the layers that are called in this `with` block continue from the end of the previous piece.

        In the block, a compiled network runs without its compiled code, because it would be compiled again for each
        piece.
        """
        global _current  # noqa: PLW0603 - see `_current`
        with _lock, _uncompiled():
            self._place, self._thread = 0, get_ident()
            _current = self
            try:
                yield
            finally:
                _current = None

    def _recall(self) -> Any:
        return self._states[self._place] if self._place < len(self._states) else None

    def _keep(self, state: Any) -> None:
        self._states[self._place : self._place + 1] = [state]
        self._place += 1


def _uncompiled() -> AbstractContextManager[Any]:
    # `set_stance` imports the compiler, which takes 70 MB. If a network is compiled, the compiler is imported already.
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
        state: the state, such as the last state of a `torch.nn.GRU`, in any shape.
    """
    past = _current
    if past is not None and past._thread == get_ident():
        past._keep(state.clone() if isinstance(state, Tensor) else state)
