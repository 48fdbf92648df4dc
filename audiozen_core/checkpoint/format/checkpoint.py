"""Writes and reads one checkpoint.

A checkpoint is a folder. It has one file of tensors for each owner, `state.json` with everything that is not a tensor,
and the manifest, which is written last.
"""

from __future__ import annotations

import contextlib
import json
import platform
import re
from collections import deque
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiozen_core import __version__
from audiozen_core.checkpoint.errors import DamagedCheckpointError, UnstorableStateError
from audiozen_core.checkpoint.format.json_codec import DecodeError
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
from audiozen_core.kinds import kind_of
from audiozen_core.registry.provided_modules import numba_version
from audiozen_core.storage.atomic import make_new_folder, remove, rename, sync_folder, temporary_name, write_new

_READERS = 4
"""How many files of a checkpoint are read and hashed at the same time."""


@dataclass(frozen=True, slots=True)
class PackedState:
    """A state that has been split into the files of a checkpoint and is ready to be written.

    Attributes:
        tensors: the tensors of each tensor file, by file name. They share memory with the state.
        metadata: the metadata of each tensor file, by file name.
        text: the content of `state.json`.
    """

    tensors: dict[str, dict[str, Tensor]]
    metadata: dict[str, dict[str, str]]
    text: str

    @property
    def size(self) -> int:
        """The approximate size of the checkpoint on the disk, in bytes."""
        tensor_bytes = sum(tensor.nbytes for tensors in self.tensors.values() for tensor in tensors.values())
        return tensor_bytes + len(self.text)

    def clone(self, reuse: PackedState | None = None) -> PackedState:
        """Copies the tensors to the CPU, so that training can continue and change the originals.

        The clone overwrites the memory of `reuse`, an earlier clone: allocating new memory takes longer than copying.
        """
        reused = reuse.tensors if reuse else {}
        tensors = {
            file: {name: _copy(tensor.detach(), reused.get(file, {}).get(name)) for name, tensor in in_file.items()}
            for file, in_file in self.tensors.items()
        }
        return PackedState(tensors, self.metadata, self.text)


def _copy(tensor: Tensor, reuse: Tensor | None) -> Tensor:
    if reuse is None or _layout(reuse) != _layout(tensor):
        return tensor.to("cpu", copy=True)
    return reuse.copy_(tensor)


def _layout(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.dtype, tensor.stride()


def pack_state(state: Mapping[str, Any]) -> PackedState:
    """Splits the states of all owners into tensors and JSON."""
    tensors: dict[str, dict[str, Tensor]] = {}
    metadata: dict[str, dict[str, str]] = {}
    texts = []
    for owner, owner_state in state.items():
        try:
            owner_tensors, encoded = flatten(owner, owner_state)
            file = _file_name(owner, tensors) if owner_tensors else None
            texts.append(f"{json.dumps(owner)}:{_json({'tensors': file, 'state': encoded})}")
        except (ValueError, RecursionError) as error:
            # JSON limits the nesting, and Python limits the digits of an integer. Neither error names the owner.
            raise UnstorableStateError(owner, [((), f"can't be written as JSON: {error}")]) from error
        if file is not None:
            tensors[file] = owner_tensors
            metadata[file] = {"format": "pt", **_aliases(encoded)}
    return PackedState(tensors, metadata, f'{{"format":{FORMAT},"owners":{{{",".join(texts)}}}}}\n')


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def write_checkpoint(
    folder: Path, packed: PackedState, *, epoch: int, step: int, score: float | None, serial: int, best: str | None
) -> None:
    """Creates the folder of a checkpoint, durably. If writing fails, the folder does not exist."""
    temporary = folder.with_name(temporary_name(folder.name))
    try:
        make_new_folder(temporary)
        files = {
            name: write_tensors(temporary / name, tensors, packed.metadata[name])
            for name, tensors in packed.tensors.items()
        }
        files[STATE] = write_new(temporary / STATE, packed.text)
        manifest = Manifest(
            epoch=epoch,
            step=step,
            score=score,
            serial=serial,
            best=best,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            versions=current_versions(),
            files=files,
        )
        write_new(temporary / MANIFEST, manifest.text())
        sync_folder(temporary)
        rename(temporary, folder)
    except BaseException:
        with contextlib.suppress(OSError):
            remove(temporary)
        raise
    sync_folder(folder.parent)


def current_versions() -> dict[str, str]:
    """Returns the versions of the packages that affect results. A new manifest records these versions."""
    return {
        "audiozen": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "numba": numba_version(),  # the kernels that need numba round differently
    }


def read_checkpoint(
    folder: Path, owners: Collection[str] | None = None, map_location: torch.device | str = "cpu"
) -> tuple[Manifest, dict[str, Any]]:
    """Reads the states of some owners, or of all. Every byte is verified before it is used."""
    manifest = read_manifest(folder)
    check_sizes(folder, manifest)
    entries = read_state(folder, manifest)
    missing = sorted(set(owners or ()) - entries.keys())
    if missing:
        raise CheckpointError(
            f"{folder} has no state of {', '.join(f'`{owner}`' for owner in missing)}",
            notes=[f"it has the states of: {', '.join(entries)}"],
            remedy=_suffix_remedy(missing[0], entries),
        )
    wanted = {owner: entry for owner, entry in entries.items() if owners is None or owner in owners}
    files = [entry["tensors"] for entry in wanted.values() if entry["tensors"] is not None]
    state = {}
    with contextlib.closing(_read_ahead(folder, files, manifest)) as contents:
        for owner, entry in wanted.items():
            content = None if entry["tensors"] is None else next(contents)
            state[owner] = _unpack_owner(folder, owner, entry, content, map_location)
            del content
    return manifest, state


def _read_ahead(folder: Path, files: Sequence[str], manifest: Manifest) -> Generator[memoryview, None, None]:
    """Yields the verified contents of files in order, and reads a few files ahead."""
    # Hashing takes longer than reading, and a thread does it without the GIL.
    with ThreadPoolExecutor(max_workers=_READERS) as pool:
        ahead: deque[Future[memoryview]] = deque()
        for file in files:
            if len(ahead) == _READERS:
                yield ahead.popleft().result()
            ahead.append(pool.submit(read_verified, folder, file, manifest))
        while ahead:
            yield ahead.popleft().result()


def _unpack_owner(
    folder: Path, owner: str, entry: Mapping[str, Any], content: memoryview | None, map_location: torch.device | str
) -> Any:
    tensors: dict[str, Tensor] = {}
    try:
        if content is not None:
            tensors, _ = parse_tensors(content)
        return unflatten(entry["state"], {key: tensor.to(map_location) for key, tensor in tensors.items()})
    except (FormatError, DecodeError) as error:
        raise DamagedCheckpointError(folder, f"the state of `{owner}` is malformed: {error}") from error


def _file_name(owner: str, taken: Collection[str]) -> str:
    """Returns a name for the owner's tensor file that is allowed on every file system."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", owner).strip(".-")[:80] or "state"
    # Some file systems ignore case, so the names must differ even in lower case.
    lower = {name.lower() for name in taken}
    count, name = 1, f"{plain}.safetensors"
    while name.lower() in lower:
        count += 1
        name = f"{plain}-{count}.safetensors"
    return name


def _aliases(encoded: Any) -> dict[str, str]:
    """Maps the other names of tied weights to the name under which they are stored.

    Programs that read bare safetensors files expect this mapping in the metadata.
    """
    if not isinstance(encoded, dict):
        return {}
    return {
        key: node["$tensor"]
        for key, node in encoded.get("$ordered", encoded.items())
        if isinstance(node, dict) and node.get("$tensor", key) != key
    }


def _suffix_remedy(missing: str, owners: Iterable[str]) -> str:
    """Returns the advice to use the suffix of the checkpoint; "" if it has no other section of this kind.

    >>> _suffix_remedy("model_x", ["model", "hook_ema"]), _suffix_remedy("hook_x", ["model", "hook_ema"])
    ('call the section [model_x] as in the checkpoint: [model]', '')
    """
    kind = kind_of(missing)
    others = " or ".join(f"[{owner}]" for owner in owners if kind and kind_of(owner) == kind)
    return f"call the section [{missing}] as in the checkpoint: {others}" if others else ""
