"""Tables of numbers and text that are mapped into memory from a file, so that processes share them.

A million rows as Python objects take hundreds of megabytes. Each worker that uses them soon has its own copy, because
Python updates the reference count of each object that it uses. A mapped table consists of a few arrays. This module
does not import torch.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from audiozen_core.storage.atomic import replacing

_MAGIC = b"audiozen table 1\n"
_ALIGNMENT = 64
_JSON_BYTES = "<u8"  # the dtype of the length of the JSON text

Array = NDArray[Any]


class TextColumn(Sequence[str]):
    """Strings in one array of bytes. Each access creates a new string.

    Args:
        ends: int64 [rows], the end of each string.
        content: uint8, the strings in UTF-8, one after another. Bytes that are not UTF-8, as in file names, are
            preserved.

    Example:
        >>> column = TextColumn(*pack_strings(["one", "", "zwölf"]))
        >>> len(column), column[2], list(column)
        (3, 'zwölf', ['one', '', 'zwölf'])
    """

    __slots__ = ("content", "ends")

    def __init__(self, ends: Array, content: Array) -> None:
        self.ends = ends
        self.content = content

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """Returns a string, or a list of strings for a slice."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        end = int(self.ends[index])
        index = int(index) + len(self) if index < 0 else index
        start = int(self.ends[index - 1]) if index else 0
        return self.content[start:end].tobytes().decode("utf-8", "surrogateescape")


def pack_strings(strings: Iterable[str]) -> tuple[Array, Array]:
    """Returns the two arrays of a `TextColumn`."""
    parts = [string.encode("utf-8", "surrogateescape") for string in strings]
    ends = np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)))
    return ends.astype(np.int64), np.frombuffer(b"".join(parts), np.uint8)


class MappedTable:
    """Columns by name, and additional facts.

    If the table was read from a file that still exists, pickling it for another process sends only the path.

    Args:
        facts: additional values, which must be valid JSON.
        arrays: the columns. A text column consists of two arrays, see `add_text`.

    Attributes:
        file: the file from which the table was read; None if it is in the memory of this process.
        token: a hash of the content; "" without a file.
    """

    def __init__(self, facts: Mapping[str, Any], arrays: Mapping[str, Array] | None = None) -> None:
        self.facts = dict(facts)
        self.arrays = dict(arrays or {})
        self.file: Path | None = None
        self.token = ""

    def add_text(self, name: str, strings: Iterable[str]) -> None:
        """Adds a text column."""
        self.arrays[f"{name}.ends"], self.arrays[f"{name}.content"] = pack_strings(strings)

    def text(self, name: str) -> TextColumn:
        """Returns a text column."""
        return TextColumn(self.arrays[f"{name}.ends"], self.arrays[f"{name}.content"])

    def write(self, path: Path) -> None:
        """Writes the table to a file, completely or not at all.

        Raises:
            OSError: the file can't be written.
        """
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        places, size = {}, 0
        for name, array in arrays.items():
            places[name] = (array.dtype.str, array.shape, size)
            size += array.nbytes + -array.nbytes % _ALIGNMENT
        head = {"token": _token(self.facts, places, arrays), "facts": self.facts, "places": places, "bytes": size}
        text = json.dumps(head).encode()
        begin = len(_MAGIC) + 8 + len(text)
        text += b" " * (-begin % _ALIGNMENT)
        with replacing(path) as descriptor, open(descriptor, "wb", closefd=False) as file:
            file.write(_MAGIC + np.array(len(text), _JSON_BYTES).tobytes() + text)
            for array in arrays.values():
                file.write(array.data if array.size else b"")
                file.write(bytes(-array.nbytes % _ALIGNMENT))

    @classmethod
    def read(cls, path: Path, *, verify: bool = False) -> MappedTable:
        """Maps a table into memory.

        Args:
            path: the file.
            verify: whether to read the whole file and compare its hash. Otherwise only the size of the file is checked.

        Raises:
            OSError: the file can't be read.
            ValueError: the file is not a table, is incomplete, or has another hash.
        """
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            content = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
        begin = len(_MAGIC) + 8
        if content[: len(_MAGIC)] != _MAGIC or len(content) < begin:
            raise ValueError(f"`{path}` is not a table")
        start = begin + int(np.frombuffer(content, _JSON_BYTES, 1, len(_MAGIC))[0])
        head = json.loads(content[begin:start])
        if len(content) != start + head["bytes"]:
            raise ValueError(f"`{path}` is incomplete")
        table = cls(head["facts"])
        for name, (dtype, shape, place) in head["places"].items():
            count = int(np.prod(shape))
            table.arrays[name] = np.frombuffer(content, dtype, count, start + place if count else 0).reshape(shape)
        if verify and _token(head["facts"], head["places"], table.arrays) != head["token"]:
            raise ValueError(f"`{path}` is damaged")
        table.file, table.token = path, head["token"]
        return table

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            if self.file is not None and _read_again(self.file, self.token):
                return _read_again, (self.file, self.token)
        except (OSError, ValueError):  # somebody has deleted or replaced the file
            pass
        return MappedTable, (self.facts, self.arrays)


def _token(facts: Mapping[str, Any], places: Mapping[str, Any], arrays: Mapping[str, Array]) -> str:
    """Returns a hash of the contents of a table. Equal contents give equal hashes in all processes."""
    token = hashlib.blake2b(json.dumps([facts, places]).encode(), digest_size=16)
    for array in arrays.values():
        token.update(array.data if array.size else b"")
    return token.hexdigest()


def _read_again(path: Path, token: str) -> MappedTable:
    """Maps the table of another process.

    Raises:
        ValueError: the file has been replaced.
    """
    table = MappedTable.read(path)
    if table.token != token:
        raise ValueError(f"`{path}` has been replaced since this run has started")
    return table
