"""What can go wrong with a checkpoint, as kinds that a caller may treat differently."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from audiozen_core.errors import CheckpointError
from audiozen_core.storage.atomic import NO_ROOM

MAKE_ROOM = "make room on the disk; the checkpoints that were there are whole"


class NoCheckpointError(CheckpointError):
    """There is no such checkpoint, or none at all to resume from."""

    code = "AZ401"


class DamagedCheckpointError(CheckpointError):
    """A checkpoint is incomplete or is not what was written; nothing of it has been used.

    Args:
        path: the checkpoint's folder, or the file.
        reason: what is wrong with it.
        remedy: what to do about it.
    """

    code = "AZ402"

    def __init__(self, path: Path, reason: str, *, remedy: str = "") -> None:
        super().__init__(f"{path} can't be used: {reason}", remedy=remedy)
        self.path = path
        self.reason = reason


class UnstorableStateError(CheckpointError):
    """A state holds something that no checkpoint can hold; the message names its owner and its key path."""

    code = "AZ403"


class CheckpointWriteError(CheckpointError):
    """The disk refused (no space, an I/O error): the checkpoints that were there are still there, whole."""

    code = "AZ404"


@contextlib.contextmanager
def refusals(what: str) -> Iterator[None]:
    """Turns what the disk refuses within the block into a `CheckpointWriteError` that begins with `what`."""
    try:
        yield
    except OSError as error:
        raise CheckpointWriteError(f"{what}: {error}", remedy=MAKE_ROOM if error.errno in NO_ROOM else "") from error
