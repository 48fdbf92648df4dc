"""Names in the folder `checkpoints`: which of them the store chooses, and may rename and delete. Imports no torch."""

from __future__ import annotations

import re
from pathlib import Path

from audiozen_core.checkpoint.format.manifest import MANIFEST, STATE
from audiozen_core.errors import CheckpointError

BEST = "best"
LATEST = "latest"
_MANAGED = re.compile(r"(?P<name>epoch_\d+(?:_step_\d+)?)(?:_\d+)?(?P<stale>\.stale\d*)?")
_ANY_STALE = re.compile(r".+\.stale\d*")
_ALLOWED = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def is_managed_name(name: str) -> bool:
    """Whether the store chooses such names: `epoch_0003`, `epoch_0003_step_0000090`, perhaps with `_2` or `.stale`.

    Anything else (a copy to keep, a checkpoint of another run, notes) may belong to the user. It is never renamed,
    pruned or fallen back to.
    """
    return _MANAGED.fullmatch(name) is not None


def is_stale_name(name: str) -> bool:
    """Whether a checkpoint of that name has been left behind."""
    match = _MANAGED.fullmatch(name)
    return match is not None and match["stale"] is not None


def base_name(name: str) -> str:
    """A managed name without `.stale` and without the number that made it a free one; any other name unchanged."""
    match = _MANAGED.fullmatch(name)
    return match["name"] if match else name


def free_name(folder: Path, name: str, separator: str = "_") -> str:
    """The name, or the first of `name_2`, `name_3`, … that nothing in the folder has.

    Args:
        folder: it need not exist.
        name: the name that is wanted.
        separator: what stands before the number.
    """
    free, count = name, 1
    while (folder / free).exists() or (folder / free).is_symlink():
        count += 1
        free = f"{name}{separator}{count}"
    return free


def checked_name(name: str) -> str:
    """The name, if a checkpoint may have it.

    Raises:
        CheckpointError: it would be mistaken for something else.
    """
    if not _ALLOWED.fullmatch(name) or name in (BEST, LATEST) or _ANY_STALE.fullmatch(name):
        raise CheckpointError(f"a checkpoint can't be called {name!r}")
    return name


def is_checkpoint(path: Path) -> bool:
    """Whether a folder is a checkpoint, even a damaged one."""
    if path.is_symlink() or not path.is_dir():
        return False
    if (path / MANIFEST).exists() or (path / STATE).exists():
        return True
    # A checkpoint that has lost both is recognized by its name, unless the folder holds what no checkpoint holds.
    return is_managed_name(path.name) and all(file.suffix == ".safetensors" for file in path.iterdir())
