"""What a causal network remembers between two pieces of a signal, so that a long one gives the same in pieces."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock, get_ident
from typing import Any

import torch
from torch import Tensor

# A plain variable, because `torch.compile` can't trace a `ContextVar`. Only one thread at a time has a value here.
_current: Past | None = None
_lock = Lock()


class Past:
    """The states of the layers of a causal network at the end of a piece of a signal.

    A network whose layers `recall` and `keep` their states says so with the attribute `carries_state = True`. It
    promises that its output is the same, up to rounding, if the frames of a signal are passed in several calls:

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
        """Lets the layers that are called in the block continue from the end of the piece before.

        A compiled network runs without its compiled code here, which would be made anew for each piece.
        """
        global _current  # noqa: PLW0603 - see there
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
    # Setting it imports the compiler, which takes 70 MB. Whoever has compiled a network has imported it.
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def recall() -> Any:
    """Returns what the layer has kept at the end of the piece before; None at the start of a signal.

    Each `recall` must be followed by a `keep`, before the next `recall`. The layers must be called in the same order in
    each piece.
    """
    past = _current
    return past._recall() if past is not None and past._thread == get_ident() else None


def keep(state: Tensor | tuple[Tensor | int, ...]) -> None:
    """Keeps the state of the layer for the next piece. Outside of `Past.piece` this does nothing.

    Args:
        state: the state, such as the last output of `torch.nn.GRU`; its first axes are those of the layer.
    """
    past = _current
    if past is not None and past._thread == get_ident():
        past._keep(state.clone() if isinstance(state, Tensor) else state)
