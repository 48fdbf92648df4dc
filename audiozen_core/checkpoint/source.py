"""Finds and reads the initial weights of a network in a run folder, a checkpoint or a file of weights."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from audiozen_core.checkpoint.directory import follow_link
from audiozen_core.checkpoint.errors import NoCheckpointError
from audiozen_core.checkpoint.format.manifest import MANIFEST, read_manifest, read_state
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.checkpoint.weights import load_weights
from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import CheckpointError
from audiozen_core.kinds import KINDS, kind_of
from audiozen_core.storage.atomic import open_regular, read_regular

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class WeightSource:
    """Weights, and the checkpoint or file from which they were read.

    Attributes:
        path: the absolute path of the checkpoint's folder or of the file.
        owner: the owner in the checkpoint; "" for a file.
        sha256: the SHA-256 of the file; for a checkpoint, the SHA-256 of its manifest, which lists the hashes of its
        files.
        weights: the weights by name.
    """

    path: Path
    owner: str
    sha256: str
    weights: dict[str, Any]


def read_source(
    path: Path, owner: str | None, section: str, *, map_location: torch.device | str = "cpu"
) -> WeightSource:
    """Reads the weights of one owner in a checkpoint, or the weights in a file.

    Args:
        path: a run folder, the folder of a checkpoint, or a safetensors file. In a run folder, the best checkpoint is
            read, or the latest checkpoint if none is marked as the best.
        owner: the owner in a checkpoint. None chooses the owner with the name of the section or, if no owner has this
            name, the only model.
        section: the section of the network, such as `model_g`.
        map_location: the device for the tensors.

    Raises:
        CheckpointError: `path` is none of these or can't be read, or `owner` has no weights.
    """
    path = follow_link(path.expanduser())
    if (path / "checkpoints").is_dir():
        store = CheckpointStore(path / "checkpoints")
        path = store.locate("best" if store.has_best else "latest")
    path = path.resolve()
    if not path.exists():
        raise NoCheckpointError(
            f"{path} does not exist", remedy="check `path`; it is relative to the working directory"
        )
    if not path.is_dir():
        if owner is not None:
            raise CheckpointError(f"{path} is a file, so `owner` has no meaning", remedy="leave `owner` out")
        weights = load_weights(path, map_location=map_location)
        with open_regular(path) as file:
            return WeightSource(path, "", _sha256(file), weights)
    if not (path / MANIFEST).exists():
        raise NoCheckpointError(
            f"{path} is neither a run folder nor a checkpoint: it has no folder `checkpoints` and no {MANIFEST}",
            remedy="give a folder such as exp/baseline or exp/baseline/checkpoints/best, or a .safetensors file",
        )
    owners = read_state(path, read_manifest(path))
    owner = owner or _owner(owners, section, path)
    weights = load_weights(path, owner=owner, map_location=map_location)
    if not isinstance(weights, dict) or any(isinstance(value, dict | list) for value in weights.values()):
        raise CheckpointError(
            f"the state of `{owner}` in {path} does not consist of weights",
            remedy=f"choose another `owner`: {', '.join(owners)}",
        )
    return WeightSource(path, owner, hashlib.sha256(read_regular(path / MANIFEST)).hexdigest(), weights)


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def _owner(owners: Collection[str], section: str, path: Path) -> str:
    if section in owners:
        return section
    models = [owner for owner in owners if kind_of(owner) == KINDS["model"]]
    if len(models) == 1:
        return models[0]
    raise CheckpointError(
        f"{path} has no weights of `{section}`",
        remedy=f"choose one of {listed(models)} with `owner`" if models else "give the checkpoint of a model",
    )
