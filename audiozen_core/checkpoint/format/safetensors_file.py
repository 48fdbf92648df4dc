"""One safetensors file: written and hashed in a single pass, read with every number of its header doubted.

The format: eight bytes with the length of the header (little-endian), the header in JSON (name to dtype, shape, and
place in the data), then the data, each tensor right behind the one before.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from audiozen_core.storage.atomic import Digest, Sink, open_regular, write_new

if TYPE_CHECKING:
    import torch

MAX_HEADER = 100_000_000
"""The longest header that readers of the format accept, in bytes."""

_ITEM_SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1, "F8_E8M0": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
_TORCH_NAMES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E8M0": "float8_e8m0fnu",
    "U16": "uint16", "I16": "int16", "F16": "float16", "BF16": "bfloat16", "U32": "uint32", "I32": "int32",
    "F32": "float32", "U64": "uint64", "I64": "int64", "F64": "float64", "C64": "complex64",
}  # fmt: skip


class FormatError(ValueError):
    """The file is no sound safetensors file; the text says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a header: its dtype in the format's spelling, its shape, and its bytes from the data's start."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a file holds, in the order of the data."""

    entries: dict[str, Entry]
    metadata: dict[str, str]


@cache
def storable_dtypes() -> dict[torch.dtype, str]:
    """The dtypes of this torch that a file holds as they are, and the format's names of them.

    `complex64` is left out: older readers of the format don't know it.
    """
    import torch

    names = {getattr(torch, name): tag for tag, name in _TORCH_NAMES.items() if hasattr(torch, name)}
    del names[torch.complex64]
    return names


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> Digest:
    """Writes tensors of storable dtypes, from any device and of any strides, to a file that does not exist yet.

    Raises:
        OSError: the disk refused.
    """
    dtypes = storable_dtypes()
    # Wide items first: so every tensor starts at a multiple of its item's size.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name in order:
        tensor = tensors[name]
        end = position + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": dtypes[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    def write(sink: Sink) -> None:
        sink.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            sink.write(_octets(tensors[name].detach().cpu().contiguous()))

    return write_new(path, write)


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str], Digest]:
    """Reads a file in one pass: its tensors, its metadata, and the digest of all that was read.

    Whoever knows what the digest ought to be must compare it before using a tensor.

    Raises:
        OSError: it can't be read, or is no regular file.
        FormatError: it is no sound safetensors file.
    """
    import torch

    dtypes = {tag: dtype for dtype, tag in storable_dtypes().items()} | {"C64": torch.complex64}
    with open_regular(path) as file:
        reader = _HashingReader(file)
        header = read_header(reader.read, path.stat().st_size)
        tensors = {}
        for name, entry in header.entries.items():
            if entry.dtype not in dtypes:
                raise FormatError(f"tensor `{name}` has the dtype {entry.dtype}, which this torch does not know")
            try:
                tensor = torch.empty(entry.shape, dtype=dtypes[entry.dtype])
            except (RuntimeError, TypeError) as error:
                raise FormatError(f"tensor `{name}` of shape {list(entry.shape)} can't be made: {error}") from None
            reader.fill(_octets(tensor))
            tensors[name] = tensor
        if file.read(1):
            raise FormatError("it grew while it was read")
    return tensors, header.metadata, reader.digest


def read_header(read: Callable[[int], bytes], size: int) -> Header:
    """Reads and checks the header of a file of `size` bytes; allocates no more than the file is long.

    Raises:
        FormatError: a length, a shape, a place or a name that can't be right.
    """
    if size < 8:
        raise FormatError(f"it has {size} bytes, fewer than the shortest safetensors file")
    length = int.from_bytes(read(8), "little")
    if length > min(MAX_HEADER, size - 8):
        raise FormatError(f"its header claims {length} bytes, and the file has {size}")
    try:
        fields = json.loads(read(length), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"its header is no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise FormatError("its header is no table")
    metadata = fields.pop("__metadata__", {})
    if not (isinstance(metadata, dict) and all(isinstance(text, str) for text in metadata.values())):
        raise FormatError("its metadata are no table of texts")
    entries = dict(
        sorted(((name, _entry(name, field)) for name, field in fields.items()), key=lambda item: item[1].start)
    )
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != position:
            raise FormatError(f"tensor `{name}` starts at byte {entry.start} of the data instead of {position}")
        position = entry.end
    if 8 + length + position != size:
        raise FormatError(f"its header speaks of {8 + length + position} bytes, and the file has {size}")
    return Header(entries, metadata)


def _entry(name: str, field: object) -> Entry:
    if not (isinstance(field, dict) and field.keys() == {"dtype", "shape", "data_offsets"}):
        raise FormatError(f"the entry of tensor `{name}` is malformed")
    dtype, shape, offsets = field["dtype"], field["shape"], field["data_offsets"]
    if not (_are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2):
        raise FormatError(f"the shape or the place of tensor `{name}` is malformed")
    if not (isinstance(dtype, str) and dtype in _ITEM_SIZES):
        raise FormatError(f"tensor `{name}` has the unknown dtype {dtype!r}")
    start, end = offsets
    if end - start != math.prod(shape) * _ITEM_SIZES[dtype]:
        raise FormatError(f"tensor `{name}` of shape {shape} does not fill its {end - start} bytes")
    return Entry(dtype, tuple(shape), start, end)


def _are_sizes(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name stands there twice")
    return table


def _octets(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU."""
    import torch

    if not tensor.numel():
        return memoryview(b"")
    # Not `reshape`: the stride of a single item may be anything, and `view` would mind.
    return tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy().data


class _HashingReader:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._size = 0

    def read(self, count: int) -> bytes:
        buffer = bytearray(count)
        self.fill(memoryview(buffer))
        return bytes(buffer)

    def fill(self, view: memoryview) -> None:
        while view:
            count = self._file.readinto(view[: 1 << 20])  # type: ignore[attr-defined]
            if not count:
                raise FormatError(f"it ends after {self._size} bytes, too early")
            self._hash.update(view[:count])
            self._size += count
            view = view[count:]

    @property
    def digest(self) -> Digest:
        return Digest(self._size, self._hash.hexdigest())
