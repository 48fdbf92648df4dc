"""One checkpoint: a folder with the tensors of each owner, `state.json` with the rest, and the manifest last."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiozen_core import __version__
from audiozen_core.checkpoint.errors import DamagedCheckpointError
from audiozen_core.checkpoint.format.json_codec import SkeletonError
from audiozen_core.checkpoint.format.manifest import (
    FORMAT,
    MANIFEST,
    STATE,
    Manifest,
    check_sizes,
    read_manifest,
    read_state,
    read_verified,
)
from audiozen_core.checkpoint.format.safetensors_file import FormatError, parse_tensors, write_tensors
from audiozen_core.checkpoint.format.state_codec import flatten, unflatten
from audiozen_core.errors import CheckpointError
from audiozen_core.storage.atomic import make_new_folder, sync_folder, write_new


@dataclass(frozen=True, slots=True)
class PackedState:
    """A state taken apart, ready to be written.

    Attributes:
        tensors: file name to tensors; they still are the memory of the state that was packed.
        metadata: file name to the metadata of that file.
        text: the content of `state.json`.
    """

    tensors: dict[str, dict[str, Tensor]]
    metadata: dict[str, dict[str, str]]
    text: str

    @property
    def size(self) -> int:
        """About how many bytes it takes on the disk."""
        numbers = sum(t.numel() * t.element_size() for tensors in self.tensors.values() for t in tensors.values())
        return numbers + len(self.text)

    def copied(self, room: PackedState | None = None) -> PackedState:
        """The same in memory of its own, on the CPU: what happens to the state from now on does not show in it.

        Args:
            room: an earlier copy that nobody needs any more; its memory is used again, since new memory takes longer to
                get than to fill.
        """
        old = room.tensors if room else {}
        tensors = {
            name: {key: _copy(tensor.detach(), old.get(name, {}).get(key)) for key, tensor in own.items()}
            for name, own in self.tensors.items()
        }
        return PackedState(tensors, self.metadata, self.text)


def _copy(tensor: Tensor, room: Tensor | None) -> Tensor:
    fits = room is not None and (room.shape, room.dtype, room.stride()) == (
        tensor.shape,
        tensor.dtype,
        tensor.stride(),
    )
    return room.copy_(tensor) if fits and room is not None else tensor.to("cpu", copy=True)


def pack(state: Mapping[str, Any]) -> PackedState:
    """Takes apart the states of all owners.

    Raises:
        UnstorableStateError: something in it can't be stored.
    """
    tensors: dict[str, dict[str, Tensor]] = {}
    metadata: dict[str, dict[str, str]] = {}
    owners = {}
    for owner, value in state.items():
        own, skeleton = flatten(owner, value)
        name = _file_name(owner, tensors) if own else None
        owners[owner] = {"tensors": name, "state": skeleton}
        if name is not None:
            tensors[name] = own
            metadata[name] = {"format": "pt", **_aliases(skeleton)}
    text = json.dumps({"format": FORMAT, "owners": owners}, allow_nan=False, separators=(",", ":"))
    return PackedState(tensors, metadata, text + "\n")


def write_checkpoint(
    folder: Path, packed: PackedState, *, epoch: int, step: int, score: float | None, serial: int, best: str | None
) -> None:
    """Writes a checkpoint into a folder that does not exist yet, and waits until it lies on the disk.

    Raises:
        OSError: the disk refused; a part of the folder may be there, without a manifest.
    """
    make_new_folder(folder)
    files = {
        name: write_tensors(folder / name, tensors, packed.metadata[name]) for name, tensors in packed.tensors.items()
    }
    files[STATE] = write_new(folder / STATE, packed.text)
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    manifest = Manifest(epoch, step, score, serial, best, created, current_versions(), files)
    write_new(folder / MANIFEST, manifest.text())
    sync_folder(folder)


def current_versions() -> dict[str, str]:
    """What a checkpoint that is written now is made with."""
    return {"audiozen": __version__, "torch": str(torch.__version__), "python": platform.python_version()}


def read_checkpoint(
    folder: Path, owners: Collection[str] | None = None, map_location: torch.device | str = "cpu"
) -> tuple[Manifest, dict[str, Any]]:
    """Reads a checkpoint, or the states of some owners of it; what is read is verified byte for byte.

    Raises:
        DamagedCheckpointError: it can't be trusted, and why.
        CheckpointError: it holds nothing for one of `owners`.
    """
    manifest = read_manifest(folder)
    check_sizes(folder, manifest)
    entries = read_state(folder, manifest)
    missing = sorted(set(owners or ()) - entries.keys())
    if missing:
        raise CheckpointError(
            f"{folder} holds nothing for {', '.join(f'`{owner}`' for owner in missing)}",
            notes=[f"it holds: {', '.join(entries)}"],
        )
    state = {}
    for owner, entry in entries.items():
        if owners is None or owner in owners:
            state[owner] = _read_owner(folder, manifest, owner, entry, map_location)
    return manifest, state


def _read_owner(
    folder: Path, manifest: Manifest, owner: str, entry: Mapping[str, Any], map_location: torch.device | str
) -> Any:
    name = entry["tensors"]
    tensors: dict[str, Tensor] = {}
    try:
        if name is not None:
            tensors, _ = parse_tensors(read_verified(folder, name, manifest))
        return unflatten(entry["state"], {key: tensor.to(map_location) for key, tensor in tensors.items()})
    except FormatError as error:
        raise DamagedCheckpointError(folder, f"{name}: {error}") from error
    except SkeletonError as error:
        raise DamagedCheckpointError(folder, f"the state of `{owner}` in {STATE}: {error}") from error


def _file_name(owner: str, taken: Collection[str]) -> str:
    """A name for the owner's tensors that no file system minds and none confuses with another."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", owner).strip(".-")[:80] or "state"
    lower = {name.lower() for name in taken}
    count, name = 1, f"{plain}.safetensors"
    while name.lower() in lower:
        count += 1
        name = f"{plain}-{count}.safetensors"
    return name


def _aliases(skeleton: Any) -> dict[str, str]:
    """Names whose tensor is stored under another name, as readers of bare safetensors files expect to be told."""
    if not isinstance(skeleton, dict):
        return {}
    return {
        key: node["$tensor"]
        for key, node in skeleton.get("$ordered", skeleton.items())
        if isinstance(node, dict) and "offset" not in node and node.get("$tensor", key) != key
    }
