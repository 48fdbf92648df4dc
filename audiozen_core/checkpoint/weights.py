"""Loads and averages weights, from checkpoints or from any safetensors files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from audiozen_core.checkpoint.directory import follow_link
from audiozen_core.checkpoint.errors import DamagedCheckpointError, NoCheckpointError, not_a_checkpoint
from audiozen_core.checkpoint.format.manifest import MANIFEST
from audiozen_core.errors import CheckpointError
from audiozen_core.kinds import KINDS, kind_of
from audiozen_core.storage.atomic import make_folder, open_regular, read_hashed

if TYPE_CHECKING:
    import torch


def load_weights(
    path: Path, *, owner: str = "model", map_location: torch.device | str = "cpu"
) -> dict[str, torch.Tensor]:
    """Loads weights, a mapping from name to tensor, from a checkpoint's folder or from a bare `.safetensors` file.

    Args:
        path: the folder of a checkpoint (`exp/baseline/checkpoints/best`) or a file.
        owner: the owner of the state to load, in a checkpoint; ignored for a file.
        map_location: the device for the tensors.

    Raises:
        NoCheckpointError: `path` does not exist, or is a folder without a checkpoint.
        DamagedCheckpointError: the checkpoint or the file is damaged; the message says how.
        CheckpointError: the checkpoint has no state of `owner`, or the file has another format.
    """
    path = follow_link(path)
    if not path.exists():
        raise NoCheckpointError(
            f"{path} does not exist",
            remedy="give a checkpoint, such as exp/baseline/checkpoints/best, or a .safetensors file",
            notes=_neighbours(path),
        )
    if path.is_dir():
        from audiozen_core.checkpoint.format.checkpoint import read_checkpoint

        if not (path / MANIFEST).exists():
            raise not_a_checkpoint(path, MANIFEST, _neighbours(path / "*"))
        _, state = read_checkpoint(path.resolve(), [owner], map_location)
        weights: dict[str, torch.Tensor] = state[owner]
        return weights
    if path.suffix != ".safetensors":
        raise _other_format(path)
    return _load_file(path, map_location)


def average(paths: Sequence[Path], *, owner: str = "model") -> dict[str, torch.Tensor]:
    """Averages the weights of several checkpoints or files in double precision.

    Args:
        paths: one or more checkpoints or files. Tensors that are not floating-point, such as a number of batches, are
            taken from the last checkpoint or file.
        owner: the owner of the states to average, in checkpoints.

    Raises:
        CheckpointError: `paths` is empty, or the weights differ in their names, shapes or types of numbers.
    """
    import torch

    if not paths:
        raise CheckpointError("`paths` is empty, so it has no weights to average", remedy="give one or more paths")
    total: dict[str, torch.Tensor] = {}
    latest: dict[str, torch.Tensor] = {}
    for path in paths:
        weights = load_weights(path, owner=owner)
        if latest and _shapes(weights) != _shapes(latest):
            raise CheckpointError(
                f"{path} and {paths[0]} can't be averaged: the names, shapes or kinds of numbers of their weights "
                "differ",
                remedy="average checkpoints of one model",
            )
        latest = weights
        for name, weight in weights.items():
            if _is_averaged(weight):
                double = weight.to(torch.promote_types(weight.dtype, torch.float64))
                total[name] = total[name] + double if name in total else double
    for name, weight in total.items():
        latest[name] = (weight / len(paths)).to(latest[name].dtype)
    return latest


def write_average(paths: Sequence[Path], output: Path) -> None:
    """Averages the weights of checkpoints, given from the oldest to the newest, and writes a new checkpoint."""
    from audiozen_core.checkpoint.format.checkpoint import pack_state, read_checkpoint, write_checkpoint

    manifest, newest = read_checkpoint(paths[-1])
    owners = [owner for owner in newest if kind_of(owner) == KINDS["model"]]
    packed = pack_state({owner: average(paths, owner=owner) for owner in owners})
    make_folder(output.parent)
    write_checkpoint(output, packed, epoch=manifest.epoch, step=manifest.step, score=None, serial=0, best=None)


def _shapes(weights: dict[str, torch.Tensor]) -> dict[str, object]:
    # A `state_dict` may also hold a module's extra state. The extra state need not be a tensor.
    return {name: (getattr(weight, "shape", None), _is_averaged(weight)) for name, weight in weights.items()}


def _is_averaged(weight: object) -> bool:
    import torch

    return isinstance(weight, torch.Tensor) and (weight.is_floating_point() or weight.is_complex())


def _load_file(path: Path, map_location: torch.device | str) -> dict[str, torch.Tensor]:
    from audiozen_core.checkpoint.format.safetensors_file import FormatError, parse_tensors

    try:
        tensors, metadata = parse_tensors(read_hashed(path.resolve())[0])
    except FormatError as error:
        raise DamagedCheckpointError(path, str(error)) from error
    except OSError as error:
        raise DamagedCheckpointError(path, f"the file can't be read: {error}") from error
    weights = {name: tensor.to(map_location) for name, tensor in tensors.items()}
    for name, kept in metadata.items():
        # Tied weights are stored once. The metadata maps their other names to the stored name.
        if kept in weights and name not in weights:
            weights[name] = weights[kept]
    return weights


def _other_format(path: Path) -> CheckpointError:
    try:
        with open_regular(path) as file:
            begin = file.read(2)
    except OSError as error:
        return DamagedCheckpointError(path, f"the file can't be read: {error}")
    # Torch writes zip files; versions before 1.6 wrote pickles.
    if begin in (b"PK", b"\x80\x02") or path.suffix in (".pt", ".pth", ".tar", ".ckpt", ".bin", ".th"):
        return CheckpointError(
            f"{path} is a PyTorch file, which can contain code, so only `audiozen convert` reads it",
            remedy=f"run `audiozen convert {path} {path.with_suffix('.safetensors').name}`, and use the new file",
        )
    return CheckpointError(
        f"{path} is neither the folder of a checkpoint nor a .safetensors file",
        remedy="give a checkpoint, such as exp/baseline/checkpoints/best, or a .safetensors file",
    )


def _neighbours(path: Path) -> list[str]:
    """Returns a note that lists the contents of the nearest existing parent of a path that does not exist."""
    parent = path.parent
    while not parent.is_dir():
        parent = parent.parent
    names = sorted(entry.name for entry in parent.iterdir() if not entry.name.startswith("."))
    return [f"{parent} contains: {', '.join(names[:20]) or 'nothing'}{', …' * (len(names) > 20)}"]
