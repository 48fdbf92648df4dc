"""Writes safetensors files with the `safetensors` library, and reads them without it.

The library writes the file directly from the memory of the tensors, without a copy and without holding the GIL. It does
not sync or hash the file, and it ignores the umask, so `storage.atomic` does this afterwards. For reading, the library
would either map the file, which could change after it was verified, or copy all tensors.
"""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors

from audiozen_core.storage.atomic import Digest, complete_new

if TYPE_CHECKING:
    import torch


_MOST = 2**63 - 1


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
    # A specification has only the address of a tensor, so the tensors must stay alive until the library has written
    # them.
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


def parse_tensors(content: memoryview | bytearray | bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Parses the bytes of a file into the tensors by name, and the metadata.

    If the digest of the file is known, verify the bytes first. If `content` is writable, the tensors share its memory,
    so no other code may write to it. Read-only content is copied.

    Raises:
        FormatError: the bytes are not a file in this format, or have a dtype that this version of torch lacks.
    """
    import torch

    view = memoryview(content)
    view = memoryview(bytearray(view)) if view.readonly else view
    header, begin = _read_header(view)
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError("its metadata are not strings")
    dtypes = {tag: dtype for dtype, tag in storable_dtypes().items()} | {"C64": torch.complex64}
    tensors, ends = {}, [(0, 0)]
    for name, field in header.items():
        tag, shape, start, end = _read_field(name, field)
        if tag not in dtypes:
            raise FormatError(f"tensor `{name}` has the dtype {tag}, which this version of torch lacks")
        dtype, count = dtypes[tag], math.prod(shape)
        # Torch multiplies the sizes in another order, so no partial product may overflow either.
        if end - start != count * dtype.itemsize or math.prod(filter(None, shape)) > _MOST:
            raise FormatError(f"tensor `{name}` has the impossible shape {shape} for {end - start} bytes")
        ends.append((start, end))
        if end > len(view) - begin:
            raise FormatError(f"tensor `{name}` ends after the end of the file")
        if not count:  # `frombuffer` raises an error for an empty buffer
            tensors[name] = torch.empty(shape, dtype=dtype)
        elif (begin + start) % dtype.itemsize:  # other programs may write unaligned tensors
            tensors[name] = torch.frombuffer(bytearray(view[begin + start : begin + end]), dtype=dtype).reshape(shape)
        else:
            tensors[name] = torch.frombuffer(view, dtype=dtype, count=count, offset=begin + start).reshape(shape)
    ends = sorted([*ends, (len(view) - begin, len(view) - begin)])
    if any(end != start for (_, end), (start, _) in pairwise(ends)):
        raise FormatError("its tensors overlap, or some of its bytes belong to no tensor")
    return tensors, metadata


def _read_header(view: memoryview) -> tuple[dict[str, Any], int]:
    """Returns the header, and where the bytes of the tensors begin."""
    begin = 8 + int.from_bytes(view[:8], "little")
    if not 8 < begin <= len(view):
        raise FormatError("its header is longer than the file")
    try:
        header = json.loads(bytes(view[8:begin]).decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"its header is not valid JSON: {error}") from None
    if not isinstance(header, dict):
        raise FormatError("its header is not a table")
    return header, begin


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a name occurs twice")
    return table


def _read_field(name: str, field: Any) -> tuple[str, list[int], int, int]:
    """Returns dtype, shape, and the positions of the first byte of a tensor and of the byte after the last one."""
    match field:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [start, end]} if all(
            type(number) is int and number >= 0 for number in (*shape, start, end)
        ):
            return dtype, shape, start, end
    raise FormatError(f"the entry `{name}` in its header is not a valid tensor")


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
