"""Reads the records of `metrics.jsonl` from the beginning or from the end, even while a run is writing the file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from audiozen_core.storage.atomic import open_regular

FILE = "metrics.jsonl"
"""The name of the file in the run folder that contains the records."""

_PIECE = 1 << 16


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the records of the file, oldest first.

    A line that is not a record is skipped, such as a last line that a run is still writing.

    Raises:
        OSError: the file can't be read.
    """
    with open_regular(path) as file:
        yield from _parsed(file)


def newest_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the records of the file, newest first. The file is read lazily, from its end.

    Raises:
        OSError: the file can't be read.
    """
    with open_regular(path) as file:
        yield from _parsed(_lines_backwards(file))


def _parsed(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            yield record


def _lines_backwards(file: BinaryIO) -> Iterator[bytes]:
    end, rest = file.seek(0, 2), b""
    while end > 0:
        start = max(0, end - _PIECE)
        file.seek(start)
        piece = b""
        while len(piece) < end - start and (more := file.read(end - start - len(piece))):
            piece += more
        first, *lines = (piece + rest).split(b"\n")
        yield from (line for line in reversed(lines) if line.strip())
        end, rest = start, first
    if rest.strip():
        yield rest
