"""Names in the folder `checkpoints`: which the store makes itself, and may thus rename and delete. Imports no torch."""

from __future__ import annotations

import re
from pathlib import Path

from audiozen_core.checkpoint.format.manifest import MANIFEST, STATE
from audiozen_core.errors import CheckpointError

BEST = "best"
LATEST = "latest"
_OWN = re.compile(r"(?P<name>epoch_\d+(?:_step_\d+)*)(?P<stale>\.stale\d*)?")
_PARKED = re.compile(r"\.(?P<name>.+)\.[0-9a-f-]+\.parked")
_ANY_STALE = re.compile(r".+\.stale\d*")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def is_own(name: str) -> bool:
    """Whether the store makes such names: `epoch_0003`, `epoch_0003_step_0000090`, and these with `.stale`.

    Whatever is called otherwise (a copy to keep, a checkpoint of another run, notes) may be somebody's own, and is
    neither renamed nor pruned.
    """
    return _OWN.fullmatch(name) is not None


def is_stale_name(name: str) -> bool:
    """Whether a checkpoint of that name was left behind."""
    match = _OWN.fullmatch(name)
    return match is not None and match["stale"] is not None


def plain_name(name: str) -> str:
    """A name of the store's without the suffix of what was left behind; any other as it is."""
    match = _OWN.fullmatch(name)
    return match["name"] if match else name


def parked_name(name: str) -> str | None:
    """The name of the checkpoint that is parked under this one; None where none is."""
    match = _PARKED.fullmatch(name)
    return match["name"] if match and match["name"] not in (BEST, LATEST) else None


def checked_name(name: str) -> str:
    """The name, if a checkpoint may be called so.

    Raises:
        CheckpointError: it would be taken for something else.
    """
    if not _NAME.fullmatch(name) or name in (BEST, LATEST) or _ANY_STALE.fullmatch(name):
        raise CheckpointError(f"a checkpoint can't be called {name!r}")
    return name


def is_checkpoint(path: Path) -> bool:
    """Whether a folder is a checkpoint, be it a damaged one; anything else is somebody's own."""
    if path.is_symlink() or not path.is_dir():
        return False
    if (path / MANIFEST).exists() or (path / STATE).exists():
        return True
    # One that has lost both is known by its name, unless something lies in it that no checkpoint has.
    return is_own(path.name) and all(entry.suffix == ".safetensors" for entry in path.iterdir())
