"""Writes and reads one safetensors file with the `safetensors` library.

The library writes the file straight from the memory of the tensors, without a copy and without holding the GIL. It does
not sync or hash the file, and it ignores the umask, so `storage.atomic` does all this afterwards.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors

from audiozen_core.storage.atomic import Digest, complete_new

if TYPE_CHECKING:
    import torch


class FormatError(ValueError):
    """The bytes are not a valid safetensors file; the message says why."""


@cache
def storable_dtypes() -> dict[torch.dtype, str]:
    """Returns the dtypes of this version of torch that a file can hold, each with its name in the format.

    `complex64` is left out, because older readers of the format do not know it.
    """
    import torch

    dtypes = {value for value in vars(torch).values() if isinstance(value, torch.dtype)}
    return {dtype: tag for dtype in dtypes - {torch.complex64} if (tag := _format_name(dtype))}


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> Digest:
    """Writes tensors of storable dtypes, from any device and with any strides, to a file that does not exist yet."""
    # A specification has only the address of a tensor, so the tensors must exist until the library has written them.
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    specifications = {
        name: safetensors.TensorSpec(
            dtype=_torch_name(tensor.dtype), shape=tensor.shape, data_ptr=tensor.data_ptr(), data_len=tensor.nbytes
        )
        for name, tensor in plain.items()
    }

    def write(path: Path) -> None:
        try:
            safetensors.serialize_file(specifications, path, dict(metadata) or None)
        except safetensors.SafetensorError as error:
            # The library reports a system error only as text, without its number. The number of a full disk is not
            # needed here, because the store checks the free space first.
            raise OSError(errno.EIO, str(error), str(path)) from error

    return complete_new(path, write)


def parse_tensors(content: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Parses the bytes of a file into the tensors by name, and the metadata.

    If the digest of the file is known, verify the bytes first. The tensors own their memory, and need no more of it
    than the bytes.
    """
    import torch

    try:
        parsed = safetensors.deserialize(content)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise FormatError(str(error)) from None
    dtypes = {tag: dtype for dtype, tag in storable_dtypes().items()} | {"C64": torch.complex64}
    tensors = {}
    for name, tensor in parsed:
        if tensor["dtype"] not in dtypes:
            raise FormatError(f"tensor `{name}` has the dtype {tensor['dtype']}, which this version of torch lacks")
        data, dtype, shape = tensor["data"], dtypes[tensor["dtype"]], tensor["shape"]
        try:
            # `frombuffer` raises an error for an empty buffer.
            tensors[name] = (
                torch.frombuffer(data, dtype=dtype).reshape(shape) if data else torch.empty(shape, dtype=dtype)
            )
        except (RuntimeError, TypeError) as error:
            raise FormatError(f"tensor `{name}` has the impossible shape {shape}: {error}") from None
    # `deserialize` checks the metadata but does not return them.
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return tensors, header.get("__metadata__") or {}


def _torch_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _format_name(dtype: torch.dtype) -> str | None:
    try:
        specification = safetensors.TensorSpec(dtype=_torch_name(dtype), shape=(2,), data_ptr=0, data_len=0)
    except safetensors.SafetensorError:
        return None
    # If a dtype packs several numbers into one byte, the format changes the shape, and reading does not change it back.
    tag: str = specification.dtype
    return tag if specification.shape == [2] else None
