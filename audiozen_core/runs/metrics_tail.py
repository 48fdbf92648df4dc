"""The newest records of `metrics.jsonl`, read from the end of the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from audiozen_core.storage.atomic import open_regular

_PIECE = 1 << 16


def newest_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the records of the file, the newest first, and reads no more of it than is asked for.

    A line that is not a record is left out, such as the last one while a run writes it.

    Raises:
        OSError: the file can't be read.
    """
    with open_regular(path) as file:
        for line in _lines_backwards(file):
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
