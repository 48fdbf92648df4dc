"""A checkpoint's manifest: epoch, step and score, and the size and XXH3-128 of every file.

This module does not import torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from audiozen_core.checkpoint.errors import DamagedCheckpointError
from audiozen_core.checkpoint.format.json_codec import Decoder, Encoder
from audiozen_core.storage.atomic import Digest, hash_file, open_regular, read_hashed, read_regular

FORMAT = 2
MANIFEST = "manifest.json"
STATE = "state.json"
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of `manifest.json`.

    Attributes:
        epoch: the number of complete epochs.
        step: the number of optimiser steps.
        score: the validation score of the last epoch; None if no validation ran.
        serial: the number of the save; later saves in the same folder have higher numbers.
        best: the name of the best checkpoint at the time of the save, possibly of this checkpoint itself.
        created: the time of the save, in ISO 8601.
        versions: the versions of `audiozen`, `torch`, `python` and `numba` that saved the checkpoint.
        files: the digest of every other file, by name.
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
        """Returns the text of the file. The text ends with its own hash, so a changed manifest is detected."""
        return _sealed({"format": FORMAT, **asdict(self), "score": Encoder().encode(self.score)})


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest of a checkpoint. Raises `DamagedCheckpointError` if it is missing or has changed."""
    try:
        content = read_regular(folder / MANIFEST)
        fields = json.loads(content)
    except FileNotFoundError:
        raise DamagedCheckpointError(folder, f"it has no {MANIFEST}") from None
    except OSError as error:
        raise DamagedCheckpointError(folder, f"its {MANIFEST} can't be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise DamagedCheckpointError(folder, f"its {MANIFEST} is not valid JSON: {error}") from None
    if isinstance(fields, dict) and type(found := fields.get("format")) is int and found != FORMAT:
        age, remedy = ("a newer", "upgrade audiozen") if found > FORMAT else ("an older", "use that version to read it")
        raise DamagedCheckpointError(folder, f"{age} AudioZEN wrote it (format {found})", remedy=remedy)
    try:
        del fields["seal"]
        unchanged = content.decode() == _sealed(fields)
        score = Decoder().decode(fields.pop("score"))
        files = {name: Digest(**file) for name, file in fields.pop("files").items()}
        del fields["format"]
        manifest = Manifest(score=score, files=files, **fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        unchanged = False
    if not unchanged or STATE not in manifest.files:
        raise DamagedCheckpointError(folder, f"its {MANIFEST} has changed since it was written")
    # The checkpoint may come from a stranger, who can compute the seal of any manifest.
    for name in manifest.files:
        if not _FILE_NAME.fullmatch(name) or name == MANIFEST:
            raise DamagedCheckpointError(folder, f"its {MANIFEST} lists {name!r}, which is not a valid file name")
    return manifest


def check_sizes(folder: Path, manifest: Manifest) -> None:
    """Does the quick check. Raises `DamagedCheckpointError` if a file is missing or has another size."""
    for name, digest in manifest.files.items():
        try:
            size = (folder / name).lstat().st_size
        except OSError:
            raise DamagedCheckpointError(folder, f"{name} is missing") from None
        if size != digest.size:
            raise DamagedCheckpointError(folder, f"{name} has {size} bytes instead of {digest.size}")


def check_contents(folder: Path, manifest: Manifest) -> None:
    """Does the thorough check. Raises `DamagedCheckpointError` if any byte of any file has changed."""
    check_sizes(folder, manifest)
    read_state(folder, manifest)
    for name, digest in manifest.files.items():
        with _damage_if_unreadable(folder, name), open_regular(folder / name) as file:
            _check_hash(folder, name, hash_file(file), digest)


def read_state(folder: Path, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Reads and verifies `state.json`: for each owner, the name of its tensor file, if any, and its encoded state."""
    content = read_verified(folder, STATE, manifest)
    try:
        owners: dict[str, dict[str, Any]] = json.loads(bytes(content))["owners"]
        for entry in owners.values():
            if not (entry["tensors"] is None or entry["tensors"] in manifest.files) or "state" not in entry:
                raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DamagedCheckpointError(folder, f"{STATE} is malformed") from None
    return owners


def read_verified(folder: Path, name: str, manifest: Manifest) -> memoryview:
    """Reads a file into new memory. Raises `DamagedCheckpointError` if it has changed since it was written."""
    with _damage_if_unreadable(folder, name):
        content, found = read_hashed(folder / name)
    _check_hash(folder, name, found, manifest.files[name])
    return content


def _check_hash(folder: Path, name: str, found: Digest, expected: Digest) -> None:
    if found != expected:
        raise DamagedCheckpointError(folder, f"{name} has changed since it was written (its hash differs)")


@contextlib.contextmanager
def _damage_if_unreadable(folder: Path, name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DamagedCheckpointError(folder, f"{name} can't be read: {error}") from error


def _sealed(fields: dict[str, Any]) -> str:
    seal = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    return json.dumps({**fields, "seal": seal}, indent=2) + "\n"
