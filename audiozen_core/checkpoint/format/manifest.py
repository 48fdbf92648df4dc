"""The manifest of a checkpoint: epoch, step and score, and the size and SHA-256 of every file. Imports no torch."""

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
    """The content of `manifest.json`.

    Attributes:
        epoch: epochs completed.
        step: optimiser steps done.
        score: the validation score, if there was one.
        serial: the number of the save in its folder; the newest checkpoint has the highest.
        best: the name of the best checkpoint when this one was saved, which may be this one.
        created: when it was saved, in ISO 8601.
        versions: the versions of audiozen, torch and Python.
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
        """The text of the file. It ends with a hash of itself, so that a changed manifest is noticed."""
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
    """Reads and checks the manifest of a checkpoint.

    Raises:
        DamagedCheckpointError: it is missing, or has changed since it was written.
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
        raise DamagedCheckpointError(folder, f"its {MANIFEST} is not valid JSON: {error}") from None
    if isinstance(fields, dict) and type(fields.get("format")) is int and fields["format"] > FORMAT:
        raise DamagedCheckpointError(
            folder, f"a newer AudioZEN wrote it (format {fields['format']})", remedy="upgrade audiozen"
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
        raise DamagedCheckpointError(folder, f"its {MANIFEST} has changed since it was written")
    for name in manifest.files:
        if not _FILE_NAME.fullmatch(name) or name == MANIFEST:
            raise DamagedCheckpointError(folder, f"its {MANIFEST} lists the file {name!r}, which no checkpoint has")
    if STATE not in manifest.files:
        raise DamagedCheckpointError(folder, f"its {MANIFEST} does not list {STATE}")
    return manifest


def check_sizes(folder: Path, manifest: Manifest) -> None:
    """The quick check: every file exists, is a regular file, and has the right size.

    Raises:
        DamagedCheckpointError: a file is missing, is not a regular file, or has another size.
    """
    for name, digest in manifest.files.items():
        try:
            status = (folder / name).lstat()
        except OSError:
            raise DamagedCheckpointError(folder, f"{name} is missing") from None
        if not (folder / name).is_file() or (folder / name).is_symlink():
            raise DamagedCheckpointError(folder, f"{name} is not a regular file")
        if status.st_size != digest.size:
            raise DamagedCheckpointError(folder, f"{name} has {status.st_size} bytes instead of {digest.size}")


def check_contents(folder: Path, manifest: Manifest) -> None:
    """The thorough check: every byte of every file is what was written.

    Raises:
        DamagedCheckpointError: a file differs from what was written.
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
    """Reads and verifies `state.json`: owner to the name of its tensor file, if any, and its encoded state.

    Raises:
        DamagedCheckpointError: it has changed since it was written, or is malformed.
    """
    content = read_verified(folder, STATE, manifest)
    try:
        owners: dict[str, dict[str, Any]] = json.loads(content)["owners"]
        for entry in owners.values():
            if not (entry["tensors"] is None or entry["tensors"] in manifest.files) or "state" not in entry:
                raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DamagedCheckpointError(folder, f"{STATE} is malformed") from None
    return owners


def read_verified(folder: Path, name: str, manifest: Manifest) -> bytes:
    """Reads a file once, and returns the bytes if they are what was written.

    Raises:
        DamagedCheckpointError: they differ, or the file can't be read.
    """
    try:
        content = read_regular(folder / name)
    except OSError as error:
        raise DamagedCheckpointError(folder, f"{name} can't be read: {error}") from error
    found = Digest(len(content), hashlib.sha256(content).hexdigest())
    check_digest(folder, name, found, manifest.files[name])
    return content


def check_digest(folder: Path, name: str, found: Digest, expected: Digest) -> None:
    """Compares the digest of what was read with that of what was written.

    Raises:
        DamagedCheckpointError: they differ.
    """
    if found.size != expected.size:
        raise DamagedCheckpointError(folder, f"{name} has {found.size} bytes instead of {expected.size}")
    if found.sha256 != expected.sha256:
        raise DamagedCheckpointError(folder, f"{name} has changed since it was written (its SHA-256 differs)")


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
