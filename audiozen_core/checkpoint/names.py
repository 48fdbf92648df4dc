"""The names in the folder `checkpoints`. The store renames and deletes only checkpoints that it has named itself.

This module does not import torch.
"""

from __future__ import annotations

import re
from pathlib import Path

from audiozen_core.checkpoint.format.manifest import MANIFEST, STATE

BEST = "best"
LATEST = "latest"
_MANAGED = re.compile(r"(?P<name>epoch_\d+(?:_step_\d+)?)(?:_\d+)?(?P<stale>\.stale\d*)?")


def checkpoint_names(epoch: int, step: int) -> tuple[str, str]:
    """Returns two names: for a checkpoint saved after an epoch, and for a checkpoint saved during the next epoch.

    Args:
        epoch: the number of complete epochs.
        step: the number of optimiser steps.
    """
    return f"epoch_{epoch:04d}", f"epoch_{epoch + 1:04d}_step_{step:07d}"


def is_managed_name(name: str) -> bool:
    """Returns whether a name has the store's form: `epoch_0003` or `epoch_0003_step_0000090`, with `_2` or `.stale`.

    Folders with other names may belong to the user: a copy, a checkpoint of another run, notes. The store never renames
    or deletes them, and never loads them instead of a damaged `latest`.
    """
    return _MANAGED.fullmatch(name) is not None


def is_stale_name(name: str) -> bool:
    """Returns whether the name marks a checkpoint as stale."""
    match = _MANAGED.fullmatch(name)
    return match is not None and match["stale"] is not None


def base_name(name: str) -> str:
    """Returns a managed name without `.stale` and without a number such as `_2`; any other name unchanged."""
    match = _MANAGED.fullmatch(name)
    return match["name"] if match else name


def free_name(folder: Path, name: str, separator: str = "_") -> str:
    """Returns the name, or if it is taken, the first unused name of `name_2`, `name_3`, …"""
    free, count = name, 1
    while (folder / free).exists() or (folder / free).is_symlink():
        count += 1
        free = f"{name}{separator}{count}"
    return free


def is_checkpoint(path: Path) -> bool:
    """Returns whether a folder is a checkpoint, even a damaged one."""
    if path.is_symlink() or not path.is_dir():
        return False
    if (path / MANIFEST).exists() or (path / STATE).exists():
        return True
    # A damaged checkpoint may have lost both files. Its name identifies it, unless the folder has other files.
    return is_managed_name(path.name) and all(file.suffix == ".safetensors" for file in path.iterdir())
