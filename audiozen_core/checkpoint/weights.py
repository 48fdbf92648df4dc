"""Weights alone: out of a checkpoint, or out of any safetensors file."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from audiozen_core.checkpoint.errors import DamagedCheckpointError, NoCheckpointError
from audiozen_core.checkpoint.format.manifest import MANIFEST
from audiozen_core.errors import CheckpointError
from audiozen_core.storage.atomic import make_folder, read_regular, remove, rename, sync_folder, temporary_name

if TYPE_CHECKING:
    import torch


def load_weights(
    path: Path, *, owner: str = "model", map_location: torch.device | str = "cpu"
) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint's folder, or in a bare `.safetensors` file: name to tensor.

    Args:
        path: the folder of a checkpoint (`exp/baseline/checkpoints/best`) or a file.
        owner: which of a checkpoint's states; of no matter for a file.
        map_location: the device for the tensors.

    Raises:
        NoCheckpointError: there is nothing of that name.
        DamagedCheckpointError: it can't be trusted, and why.
        CheckpointError: the checkpoint holds nothing for `owner`.
    """
    if not path.exists():
        raise NoCheckpointError(f"there is no {path}", notes=_neighbours(path))
    if path.is_dir():
        from audiozen_core.checkpoint.format.checkpoint import read_checkpoint

        if not (path / MANIFEST).exists():
            raise NoCheckpointError(f"{path} is no checkpoint: it has no {MANIFEST}", notes=_neighbours(path / "*"))
        _, state = read_checkpoint(path.resolve(), [owner], map_location)
        weights: dict[str, torch.Tensor] = state[owner]
        return weights
    if path.suffix != ".safetensors":
        raise CheckpointError(
            f"{path} is neither a checkpoint's folder nor a .safetensors file",
            remedy="other formats may hold code and are not read; convert the weights with the `safetensors` package",
        )
    return _load_file(path, map_location)


def average(paths: Sequence[Path], *, owner: str = "model") -> dict[str, torch.Tensor]:
    """The mean of the weights of several checkpoints or files, taken in double precision.

    Args:
        paths: one or more; what is no floating-point number (a count of batches, say) is taken from the last.
        owner: which of the states of a checkpoint.

    Raises:
        CheckpointError: there is none, or they are not of one and the same net.
    """
    import torch

    if not paths:
        raise CheckpointError("there is nothing to average")
    total: dict[str, torch.Tensor] = {}
    latest: dict[str, torch.Tensor] = {}
    for path in paths:
        weights = load_weights(path, owner=owner)
        if latest and _shapes(weights) != _shapes(latest):
            raise CheckpointError(f"{path} and {paths[0]} are not of one and the same net, so they have no mean")
        latest = weights
        for name, weight in weights.items():
            if isinstance(weight, torch.Tensor) and (weight.is_floating_point() or weight.is_complex()):
                double = weight.to(torch.complex128 if weight.is_complex() else torch.float64)
                total[name] = total[name] + double if name in total else double
    for name, weight in total.items():
        latest[name] = (weight / len(paths)).to(latest[name].dtype)
    return latest


def write_average(paths: Sequence[Path], output: Path) -> None:
    """Writes the mean of the weights of several checkpoints as one more, which appears whole or not at all.

    Args:
        paths: the folders of the checkpoints, the newest last.
        output: the folder to make.

    Raises:
        CheckpointError: they are not of one and the same net.
        OSError: the disk refused; nothing of the new checkpoint is left.
    """
    from audiozen_core.checkpoint.format.checkpoint import pack, read_checkpoint, write_checkpoint

    manifest, newest = read_checkpoint(paths[-1])
    owners = [owner for owner in newest if owner == "model" or owner.startswith("model_")]
    packed = pack({owner: average(paths, owner=owner) for owner in owners})
    make_folder(output.parent)
    aside = output.with_name(temporary_name(output.name))
    try:
        write_checkpoint(aside, packed, epoch=manifest.epoch, step=manifest.step, score=None, serial=0, best=None)
        rename(aside, output)
    except BaseException:
        with contextlib.suppress(OSError):
            remove(aside)
        raise
    sync_folder(output.parent)


def _shapes(weights: dict[str, torch.Tensor]) -> dict[str, object]:
    # A module's extra state stands among its weights and need not be a tensor.
    return {name: getattr(weight, "shape", None) for name, weight in weights.items()}


def _load_file(path: Path, map_location: torch.device | str) -> dict[str, torch.Tensor]:
    from audiozen_core.checkpoint.format.safetensors_file import FormatError, parse_tensors

    try:
        tensors, metadata = parse_tensors(read_regular(path.resolve()))
    except FormatError as error:
        raise DamagedCheckpointError(path, str(error)) from error
    except OSError as error:
        raise DamagedCheckpointError(path, f"it can't be read: {error}") from error
    weights = {name: tensor.to(map_location) for name, tensor in tensors.items()}
    for name, kept in metadata.items():
        if kept in weights and name not in weights:  # a tied weight, stored once
            weights[name] = weights[kept]
    return weights


def _neighbours(path: Path) -> list[str]:
    """What lies beside a path that leads nowhere."""
    parent = path.parent
    while not parent.is_dir():
        parent = parent.parent
    names = sorted(entry.name for entry in parent.iterdir() if not entry.name.startswith("."))
    return [f"{parent} holds: {', '.join(names[:20]) or 'nothing'}{', …' * (len(names) > 20)}"]
