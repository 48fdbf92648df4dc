"""The processes of a run, and how they exchange values. In a run of one process, all methods return at once."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from audiozen_core.errors import HookError, RunError

if TYPE_CHECKING:
    from torch import Tensor

_Value = TypeVar("_Value")

_WIDTH = 5

# Parts of the error messages of gloo and NCCL if another process has ended or does not answer in time.
_SILENT = ("timed out", "timeout")
_LOST = (*_SILENT, "closed by peer", "reset by peer", "broken pipe", "remote process", "connection")


class PeerError(RunError):
    """Another process of the run has failed or does not answer. The error of that process says why."""


class Ranks:
    """The processes of a run. Each process has a number, its rank. Rank 0 is the main process, which writes all files.

    Every method except the properties must be called by all ranks, in the same order, and from functions of the same
    name. If ranks make different calls, the run ends with an error. If a rank makes no call, the other ranks wait until
    the timeout.

    Attributes:
        rank: the number of this process, from 0.
        size: the number of processes.
        local_rank: the number of this process among the processes on its machine, from 0.
        local_size: the number of processes on its machine.

    Example:
        >>> alone = Ranks()
        >>> alone.is_main, alone.gather("mine"), alone.any(False)
        (True, ['mine'], False)
    """

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0, local_size: int = 1) -> None:
        self.rank = rank
        self.size = size
        self.local_rank = local_rank
        self.local_size = local_size

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the only rank that writes checkpoints, records and tables."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether the run has more than one process."""
        return self.size > 1

    def gather(self, value: _Value) -> list[_Value]:
        """Returns the values of all ranks, in the order of the ranks, to every rank. Tensors must be on the CPU.

        Raises:
            RunError: the value can't be sent to another process.
        """
        if self.size == 1:
            return [value]
        self.exchange("gather")
        return self._gather(value)

    def _gather(self, value: Any) -> list[Any]:
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        with self.explained(), self._sends(value):
            dist.all_gather_object(values, value)
        return values

    def exchange(self, place: str, *numbers: int) -> list[tuple[int, ...]]:
        """Returns the integers of all ranks, in the order of the ranks. This is faster than `gather`.

        Args:
            place: a word that says what the numbers are for.
            numbers: up to four integers; their number must be the same on all ranks.

        Raises:
            RunError: another rank exchanges numbers for something else, or in another function, because only some ranks
                have made a call that all ranks must make.
        """
        if self.size == 1:
            return [numbers]
        import torch
        import torch.distributed as dist

        # Without this comparison, a call that only some ranks make would get the values of another call.
        here = f"`{place}`{_caller()}"
        own = torch.zeros(_WIDTH, dtype=torch.int64)
        own[: 1 + len(numbers)] = torch.tensor([zlib.crc32(here.encode()), *numbers])
        every = torch.empty(self.size, _WIDTH, dtype=torch.int64)
        # Gloo's `all_gather` passes numbers around a ring. With 16 ranks, a gather and a broadcast by rank 0 are three
        # times as fast.
        with self.explained():
            dist.gather(own, list(every) if self.is_main else None, dst=0)
            dist.broadcast(every, src=0)
        rows: list[list[int]] = every.tolist()
        if any(where != rows[0][0] for where, *_ in rows):
            others = self._gather(here)
            rank = next(rank for rank, where in enumerate(others) if where != others[0])
            raise RunError(
                f"the ranks are out of step: rank 0 is at {others[0]}, and rank {rank} at {others[rank]}",
                remedy="look for a hook or a trainer that uses `trainer.ranks`, saves or stops on some "
                "ranks only; a step of an evaluation can't use it, because ranks have different numbers of batches",
            )
        return [tuple(row[1 : 1 + len(numbers)]) for row in rows]

    def any(self, flag: object) -> bool:
        """Returns whether the flag is true on any rank."""
        return any(number for (number,) in self.exchange("any", int(bool(flag))))

    def from_main(self, value: _Value) -> _Value:
        """Returns the value of the main process."""
        return self.from_rank(0, value)

    def from_rank(self, rank: int, value: _Value) -> _Value:
        """Returns the value of one rank. Tensors must be on the CPU."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        self.exchange("from_main")
        box = [value]
        with self.explained(), self._sends(value):
            dist.broadcast_object_list(box, src=rank)
        return box[0]

    def first(self, answer: _Value | None) -> _Value | None:
        """Returns the answer of the lowest rank whose answer is not None; None if no rank has an answer."""
        if self.size == 1 or not self.any(answer is not None):
            return answer
        return next((value for value in self.gather(answer) if value is not None), None)

    def wait(self) -> None:
        """Waits until all ranks have called this method."""
        self.exchange("wait")

    def differing_ranks(self, value: object) -> list[int]:
        """Returns the ranks whose value has a different `repr` from the value of the main process."""
        # The values are compared as text, because NaN is not equal to NaN.
        values = [repr(other) for other in self.gather(value)] if self.size > 1 else []
        return [rank for rank, other in enumerate(values) if other != values[0]]

    def share_tensors(self, tensors: Sequence[Tensor]) -> None:
        """Overwrites tensors with the tensors of the main process. The shapes must be the same on all ranks."""
        if self.size == 1 or not tensors:
            return
        import torch
        import torch.distributed as dist

        self.exchange("share_tensors", len(tensors))
        alike: dict[Any, list[Tensor]] = {}
        for tensor in tensors:
            alike.setdefault((tensor.dtype, tensor.device), []).append(tensor)
        with torch.no_grad(), self.explained():
            for of_type in alike.values():
                flat = torch.cat([tensor.reshape(-1) for tensor in of_type])
                dist.broadcast(flat.view(torch.uint8), src=0)  # as bytes: some types can't be sent
                if not self.is_main:
                    sizes = [tensor.numel() for tensor in of_type]
                    for tensor, values in zip(of_type, torch.split(flat, sizes), strict=True):
                        tensor.copy_(values.view_as(tensor))

    @contextmanager
    def _sends(self, value: object) -> Iterator[None]:
        try:
            yield
        except RuntimeError:  # an error of the connection
            raise
        except Exception as error:
            raise RunError.caused_by(
                error,
                f"a `{type(value).__name__}` can't be sent to the other processes of the run:",
                remedy="return, or gather, tensors, arrays, numbers, strings, and lists or dicts of them",
            ) from error

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns errors of the connection to another rank into a `PeerError`.

        Raises:
            PeerError: the connection failed, possibly within a hook or a backward pass.
        """
        try:
            yield
        except Exception as error:
            cause = error.__cause__ if isinstance(error, HookError | RunError) else error
            if isinstance(cause, RuntimeError):
                self.explain(cause)
            raise

    def explain(self, error: RuntimeError) -> None:
        """Raises a `PeerError` if an error comes from the connection to another rank.

        Raises:
            PeerError: the error comes from the connection.
        """
        said = str(error).lower()
        if self.size > 1 and any(word in said for word in _SILENT):
            raise PeerError(
                f"rank {self.rank} has waited for the other processes longer than `timeout` of [distributed]",
                remedy="check whether one of them is stuck, or its machine can't be reached; if it only needs "
                "longer, raise `timeout`",
            ) from error
        if self.size > 1 and any(word in said for word in _LOST):
            raise PeerError(
                f"rank {self.rank} has lost the other processes of the run",
                remedy="read the error of the process that ended first; its log is in the folder of the run",
            ) from error


def _caller() -> str:
    """Returns a text that names the function that has called a method of `Ranks`."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename == __file__ and frame.f_back is not None:
        frame = frame.f_back
    return f" in `{frame.f_code.co_name}` of {Path(frame.f_code.co_filename).name}"


ALONE = Ranks()
"""The only process of a run."""
