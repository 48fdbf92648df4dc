"""Writes tables as CSV and summaries as JSON. A file is written completely or not at all."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from audiozen_core.diagnostics.printable import printable
from audiozen_core.storage.atomic import make_folder, write_whole


def write_csv(
    path: Path,
    header: Sequence[str],
    rows: Iterable[Sequence[str | float]],
    identities: Mapping[str, Mapping[str, Any]],
) -> Path:
    """Writes a CSV file, and a JSON file next to it that defines each metric. NaN and infinity become empty cells.

    The JSON file is `scores.metrics.json` for `scores.csv`. The definitions are not in the CSV file, because comment
    lines would keep other programs from reading it without special options.

    Args:
        path: the CSV file; its folder is created if necessary.
        header: the names of the columns.
        rows: the cells of each row.
        identities: the `MetricIdentity` of each metric as JSON, by metric name.

    Raises:
        OSError: the file can't be written. An existing file with this name stays unchanged.
    """
    write_table(path, header, rows)
    write_json(identities_beside(path), identities)
    return path


def identities_beside(path: Path) -> Path:
    """Returns the path of the JSON file next to a CSV file, which defines each metric."""
    return path.with_name(f"{path.stem}.metrics.json")


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str | float]]) -> Path:
    """Writes a CSV file, and creates its folder if necessary. NaN and infinity become empty cells.

    Raises:
        OSError: the file can't be written. An existing file with this name stays unchanged.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([cell if isinstance(cell, str) else number(cell) for cell in row] for row in rows)
    make_folder(path.parent)
    write_whole(path, printable(text.getvalue()))
    return path


def number(value: float) -> str:
    """Returns the shortest text that can be read back as the same number; "" if the number is not finite.

    Example:
        >>> number(0.1), number(15.0), number(math.nan)
        ('0.1', '15', '')
    """
    return repr(float(value)).removesuffix(".0") if math.isfinite(value) else ""


def read_number(text: str) -> float | None:
    """Returns the number in a cell, NaN for an empty cell, and None for text.

    Digits with underscores count as text, although `float` reads `1_2` as 12.

    Example:
        >>> read_number("-1.5e3"), read_number(" "), read_number("1_2"), read_number("babble")
        (-1500.0, nan, None, None)
    """
    try:
        return None if "_" in text else float(text) if text.strip() else math.nan
    except ValueError:
        return None


def finite_or_none(value: float) -> float | None:
    """Returns None for NaN and infinity, which JSON can't represent."""
    return value if math.isfinite(value) else None


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Writes a JSON file, and creates its folder if necessary.

    Raises:
        OSError: the file can't be written. An existing file with this name stays unchanged.
        ValueError: a number is not finite.
    """
    make_folder(path.parent)
    write_whole(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
    return path
