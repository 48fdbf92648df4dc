"""Names in the folder `checkpoints`: which of them the store chooses, and may rename and delete. Imports no torch."""

from __future__ import annotations

import re
from pathlib import Path

from audiozen_core.checkpoint.format.manifest import MANIFEST, STATE

BEST = "best"
LATEST = "latest"
_MANAGED = re.compile(r"(?P<name>epoch_\d+(?:_step_\d+)?)(?:_\d+)?(?P<stale>\.stale\d*)?")


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
    """The name, or the first of `name_2`, `name_3`, … that nothing in the folder has."""
    free, count = name, 1
    while (folder / free).exists() or (folder / free).is_symlink():
        count += 1
        free = f"{name}{separator}{count}"
    return free


def is_checkpoint(path: Path) -> bool:
    """Whether a folder is a checkpoint, even a damaged one."""
    if path.is_symlink() or not path.is_dir():
        return False
    if (path / MANIFEST).exists() or (path / STATE).exists():
        return True
    # A checkpoint that has lost both is recognized by its name, unless the folder holds other files.
    return is_managed_name(path.name) and all(file.suffix == ".safetensors" for file in path.iterdir())
