"""Converts a PyTorch file, such as `weights.tar`, into a safetensors file. A separate process reads the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from audiozen_core.errors import CheckpointError

_CHILD = "audiozen_core.checkpoint.read_torch_file"


@dataclass(frozen=True, slots=True)
class Converted:
    """The result of a conversion.

    Attributes:
        key: the key of the weights in the file, such as `model`; "" if the file contains only the weights.
        tensors: the number of tensors.
        weights: the number of weights in all tensors.
        left_out: the entries that are not tensors.
    """

    key: str
    tensors: int
    weights: int
    left_out: list[str]


def convert_torch_file(source: Path, target: Path, key: str = "") -> Converted:
    """Reads the weights in a PyTorch file in a separate process, and writes a safetensors file.

    Args:
        source: the file, in any format that `torch.load(weights_only=True)` reads.
        target: the safetensors file. It must not exist.
        key: the key of the weights in the file, such as `model` or `state.generator`; needed if the file has several
            sets of weights.

    Raises:
        CheckpointError: the file contains code or can't be read, has no weights at `key`, or has several sets of
            weights but no `key` is given; or `target` exists. In each case, nothing is written.
    """
    if target.suffix != ".safetensors":
        raise CheckpointError(
            f"{target} does not end in .safetensors", remedy=f"write {target.with_suffix('.safetensors')}"
        )
    if target.exists() or target.is_symlink():
        raise CheckpointError(f"{target} already exists", remedy="delete it, or give another file")
    if not source.is_file():
        raise CheckpointError(f"{source} is not a file", remedy="give a file such as weights.tar, .pt, .pth or .ckpt")
    if not target.absolute().parent.is_dir():
        raise CheckpointError(f"the folder {target.absolute().parent} does not exist", remedy="create it first")
    # Python imports modules from the working directory, where the author of an untrusted file may have put some. So
    # an empty folder becomes the working directory.
    with tempfile.TemporaryDirectory() as empty:
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH", ""))))
        done = subprocess.run(
            [sys.executable, "-m", _CHILD, str(source.absolute()), str(target.absolute()), key],
            cwd=empty,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (
            done.stderr.strip().splitlines() or [f"the process that reads it ended with exit code {done.returncode}"]
        )[-1]
        raise CheckpointError(
            f"{source} can't be converted: {last}",
            remedy="check that `torch.save` has written the file, and that the file is complete",
        ) from None
    if "error" in answer:
        raise CheckpointError(f"{source} can't be converted: {answer['error']}", remedy=answer["remedy"])
    return Converted(**answer)
