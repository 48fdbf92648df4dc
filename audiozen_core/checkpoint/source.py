"""Finds and reads the weights that a network is to start from: of a run, of a checkpoint, or in a file."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiozen_core.checkpoint.directory import follow_link
from audiozen_core.checkpoint.errors import NoCheckpointError
from audiozen_core.checkpoint.format.manifest import MANIFEST, read_manifest, read_state
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.checkpoint.weights import load_weights
from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import CheckpointError
from audiozen_core.storage.atomic import hash_file, open_regular

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class WeightSource:
    """Weights, and where they come from.

    Attributes:
        path: the folder of the checkpoint or the file, absolute.
        owner: the owner in the checkpoint; "" for a file.
        sha256: the hash of the file, or of the manifest of the checkpoint, which has the hashes of its files.
        weights: the weights by name.
    """

    path: Path
    owner: str
    sha256: str
    weights: dict[str, Any]


def read_source(
    path: Path, owner: str | None, section: str, *, map_location: torch.device | str = "cpu"
) -> WeightSource:
    """Reads weights.

    Args:
        path: a run folder, whose best checkpoint is read, or the latest if no checkpoint is marked as the best; the
            folder of a checkpoint; or a safetensors file.
        owner: the owner in a checkpoint; None for the one called like the section, or else the only model.
        section: the section of the network, such as `model_g`.
        map_location: the device for the tensors.

    Raises:
        CheckpointError: the path is something else, or can't be read; or `owner` has no weights.
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
            return WeightSource(path, "", hash_file(file).sha256, weights)
    if not (path / MANIFEST).exists():
        raise NoCheckpointError(
            f"{path} is neither a run folder nor a checkpoint: it has no folder `checkpoints` and no {MANIFEST}",
            remedy="name a folder such as exp/baseline or exp/baseline/checkpoints/best, or a .safetensors file",
        )
    owners = read_state(path, read_manifest(path))
    owner = owner or _owner(owners, section, path)
    weights = load_weights(path, owner=owner, map_location=map_location)
    if not isinstance(weights, dict) or any(isinstance(value, dict | list) for value in weights.values()):
        raise CheckpointError(
            f"the state of `{owner}` in {path} does not consist of weights",
            remedy=f"choose another `owner`: {', '.join(owners)}",
        )
    return WeightSource(path, owner, hashlib.sha256((path / MANIFEST).read_bytes()).hexdigest(), weights)


def _owner(owners: Collection[str], section: str, path: Path) -> str:
    if section in owners:
        return section
    models = [owner for owner in owners if owner == "model" or owner.startswith("model_")]
    if len(models) == 1:
        return models[0]
    raise CheckpointError(
        f"{path} has no weights of `{section}`",
        remedy=f"choose one of {listed(models)} with `owner`" if models else "name the checkpoint of a model",
    )
