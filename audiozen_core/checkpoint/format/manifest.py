"""The manifest of a checkpoint: what it is, and the size and SHA-256 of each of its files. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiozen_core.checkpoint.errors import DamagedCheckpointError
from audiozen_core.checkpoint.format.json_codec import Decoder, Encoder
from audiozen_core.checkpoint.format.safetensors_file import FormatError, check_header
from audiozen_core.storage.atomic import Digest, open_regular, read_regular

FORMAT = 1
MANIFEST = "manifest.json"
STATE = "state.json"
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `manifest.json` says.

    Attributes:
        epoch: epochs completed.
        step: optimiser steps done.
        score: the validation score, if there was one.
        serial: counts the saves of a run's folder; the newest checkpoint has the highest.
        best: the name of the checkpoint that was the best when this one was saved, itself maybe.
        created: when it was saved, ISO 8601.
        versions: of audiozen, torch and Python.
        files: name to digest of every other file.
    """

    epoch: int
    step: int
    score: float | None
    serial: int
    best: str | None
    created: str
    versions: dict[str, str]
    files: dict[str, Digest]

    def text(self) -> str:
        """The file's text, which ends with a hash of itself: a manifest that has been tampered with is known."""
        fields: dict[str, Any] = {
            "format": FORMAT,
            "epoch": self.epoch,
            "step": self.step,
            "score": Encoder("score").encode(self.score),
            "serial": self.serial,
            "best": self.best,
            "created": self.created,
            "versions": self.versions,
            "files": {name: {"size": file.size, "sha256": file.sha256} for name, file in sorted(self.files.items())},
        }
        return _sealed(fields)


def read_manifest(folder: Path) -> Manifest:
    """Reads and checks a checkpoint's manifest.

    Raises:
        DamagedCheckpointError: there is none, or it is not as it was written.
    """
    path = folder / MANIFEST
    try:
        content = read_regular(path)
        fields = json.loads(content)
    except FileNotFoundError:
        raise DamagedCheckpointError(folder, f"it has no {MANIFEST}") from None
    except OSError as error:
        raise DamagedCheckpointError(folder, f"its {MANIFEST} can't be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise DamagedCheckpointError(folder, f"its {MANIFEST} is no JSON: {error}") from None
    if isinstance(fields, dict) and type(fields.get("format")) is int and fields["format"] > FORMAT:
        raise DamagedCheckpointError(
            folder, f"it has format {fields['format']}, of a newer AudioZEN", remedy="upgrade audiozen"
        )
    try:
        seal = fields.pop("seal")
        genuine = content.decode() == _sealed(fields) and seal
        score = Decoder().decode(fields.pop("score"))
        files = {name: Digest(file["size"], file["sha256"]) for name, file in fields.pop("files").items()}
        del fields["format"]
        manifest = Manifest(score=score, files=files, **fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        genuine = False
    if not genuine:
        raise DamagedCheckpointError(folder, f"its {MANIFEST} is not as it was written")
    for name in manifest.files:
        if not _FILE_NAME.fullmatch(name) or name == MANIFEST:
            raise DamagedCheckpointError(folder, f"its {MANIFEST} names the file {name!r}")
    if STATE not in manifest.files:
        raise DamagedCheckpointError(folder, f"its {MANIFEST} knows no {STATE}")
    return manifest


def check_sizes(folder: Path, manifest: Manifest) -> None:
    """A quick look: is every file there, a regular one, and as long as it was?

    Raises:
        DamagedCheckpointError: not so.
    """
    for name, digest in manifest.files.items():
        try:
            status = (folder / name).lstat()
        except OSError:
            raise DamagedCheckpointError(folder, f"{name} is missing") from None
        if not (folder / name).is_file() or (folder / name).is_symlink():
            raise DamagedCheckpointError(folder, f"{name} is no regular file")
        if status.st_size != digest.size:
            raise DamagedCheckpointError(folder, f"{name} has {status.st_size} bytes instead of {digest.size}")


def check_contents(folder: Path, manifest: Manifest) -> None:
    """A long look: is every file, byte for byte, what was written?

    Raises:
        DamagedCheckpointError: not so.
    """
    check_sizes(folder, manifest)
    read_state(folder, manifest)
    for name, digest in manifest.files.items():
        try:
            with open_regular(folder / name) as file:
                check_digest(folder, name, _hash(file), digest)
            if name.endswith(".safetensors"):
                check_header(folder / name)
        except OSError as error:
            raise DamagedCheckpointError(folder, f"{name} can't be read: {error}") from error
        except FormatError as error:
            raise DamagedCheckpointError(folder, f"{name}: {error}") from error


def read_state(folder: Path, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Reads `state.json`, verified: owner to the name of its file of tensors, if any, and the skeleton of its state.

    Raises:
        DamagedCheckpointError: it is not as it was written, or makes no sense.
    """
    content = read_verified(folder, STATE, manifest)
    try:
        owners: dict[str, dict[str, Any]] = json.loads(content)["owners"]
        for entry in owners.values():
            if not (entry["tensors"] is None or entry["tensors"] in manifest.files) or "state" not in entry:
                raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DamagedCheckpointError(folder, f"{STATE} makes no sense") from None
    return owners


def read_verified(folder: Path, name: str, manifest: Manifest) -> bytes:
    """Reads a file once and returns its bytes if they are those that were written.

    Raises:
        DamagedCheckpointError: they are not, or the file can't be read.
    """
    try:
        content = read_regular(folder / name)
    except OSError as error:
        raise DamagedCheckpointError(folder, f"{name} can't be read: {error}") from error
    found = Digest(len(content), hashlib.sha256(content).hexdigest())
    check_digest(folder, name, found, manifest.files[name])
    return content


def check_digest(folder: Path, name: str, found: Digest, expected: Digest) -> None:
    """Compares what was read with what was written.

    Raises:
        DamagedCheckpointError: they differ.
    """
    if found.size != expected.size:
        raise DamagedCheckpointError(folder, f"{name} has {found.size} bytes instead of {expected.size}")
    if found.sha256 != expected.sha256:
        raise DamagedCheckpointError(folder, f"{name} is not as it was written (its SHA-256 differs)")


def _hash(file: Any) -> Digest:
    sha256 = hashlib.sha256()
    buffer = memoryview(bytearray(1 << 20))
    size = 0
    while count := file.readinto(buffer):
        sha256.update(buffer[:count])
        size += count
    return Digest(size, sha256.hexdigest())


def _sealed(fields: dict[str, Any]) -> str:
    seal = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    return json.dumps({**fields, "seal": seal}, indent=2) + "\n"
