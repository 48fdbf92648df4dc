"""Checkpoint errors: one class for each case that a caller may handle differently."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from audiozen_core.errors import CheckpointError
from audiozen_core.storage.atomic import NO_ROOM

MAKE_ROOM = "free some disk space; the existing checkpoints are intact"
_CHECK_DISK = "check the disk and the permissions of the folder; the existing checkpoints are intact"
_USE_ANOTHER = "use another checkpoint, or restore this one from a copy"


class NoCheckpointError(CheckpointError):
    """The checkpoint does not exist, or the folder has no checkpoints."""

    code = "AZ401"


def not_a_checkpoint(folder: Path, missing: str, notes: Sequence[str] = ()) -> NoCheckpointError:
    """Returns the error for a folder that lacks the file `missing` of a checkpoint, such as a run folder."""
    remedy = "give the folder of a checkpoint, such as exp/baseline/checkpoints/best"
    if (folder / "checkpoints").is_dir():
        remedy = f"it is the folder of a run: give one of its checkpoints, such as {folder / 'checkpoints' / 'best'}"
    return NoCheckpointError(f"{folder} is not a checkpoint: it has no {missing}", remedy=remedy, notes=notes)


class DamagedCheckpointError(CheckpointError):
    """A checkpoint is incomplete or has changed since it was written; no part of it has been used.

    Args:
        path: the checkpoint's folder, or the file.
        reason: what is wrong with the checkpoint or the file.
        remedy: what the user should do.
    """

    code = "AZ402"

    def __init__(self, path: Path, reason: str, *, remedy: str = _USE_ANOTHER) -> None:
        super().__init__(f"{path} can't be used: {reason}", remedy=remedy)
        self.path = path
        self.reason = reason


class UnstorableStateError(CheckpointError):
    """A state contains something that can't be stored; the message names the owner and the key path.

    Args:
        owner: the name of the owner in the checkpoint, such as `optimizer`.
        problems: for each value that can't be stored, the keys that lead to the value, and what is wrong with it.
        title: the name of the owner in the message; by default, `owner`.
        root: the name that the message prints before the keys; by default, `owner`.
    """

    code = "AZ403"

    def __init__(
        self, owner: str, problems: Sequence[tuple[Sequence[Any], str]], *, title: str = "", root: str = ""
    ) -> None:
        first, *others = [f"`{root or owner}{_path(keys)}` {reason}" for keys, reason in problems]
        super().__init__(
            f"the state of {title or f'`{owner}`'} can't be stored: {first}",
            remedy="leave it out of the state, or store numbers, strings, lists, dictionaries or tensors instead",
            notes=[f"also: {problem}" for problem in others[:9]],
        )
        self.owner = owner
        self.problems = problems


class CheckpointWriteError(CheckpointError):
    """A checkpoint could not be written (no space, an I/O error); the existing checkpoints are intact."""

    code = "AZ404"


def _path(keys: Sequence[Any]) -> str:
    return "".join(f"[{key!r}]" for key in keys)


@contextlib.contextmanager
def translate_disk_errors(what: str) -> Iterator[None]:
    """Turns an `OSError` of the block into a `CheckpointWriteError` whose message begins with `what`."""
    try:
        yield
    except OSError as error:
        remedy = MAKE_ROOM if error.errno in NO_ROOM else _CHECK_DISK
        raise CheckpointWriteError(f"{what}: {error}", remedy=remedy) from error
