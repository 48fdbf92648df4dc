"""Writes tables of values as CSV, and summaries as JSON. A file is written completely or not at all."""

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
    """Writes a CSV file, and beside it what defines each metric. A number that is not finite is an empty cell.

    The second file, `scores.metrics.json` for `scores.csv`, is a file of its own, so that every program reads the CSV
    without an option.

    Args:
        path: the file; its folder is made if it is missing.
        header: the names of the columns.
        rows: the cells of each row.
        identities: by the name of the metric, its `MetricIdentity` as JSON.

    Raises:
        OSError: the file can't be written. An earlier file of this name is unchanged.
    """
    write_table(path, header, rows)
    write_json(identities_beside(path), identities)
    return path


def identities_beside(path: Path) -> Path:
    """Returns the file beside a CSV file that has what defines each metric."""
    return path.with_name(f"{path.stem}.metrics.json")


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str | float]]) -> Path:
    """Writes a CSV file; its folder is made if it is missing. A number that is not finite is an empty cell.

    Raises:
        OSError: the file can't be written. An earlier file of this name is unchanged.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([cell if isinstance(cell, str) else number(cell) for cell in row] for row in rows)
    make_folder(path.parent)
    write_whole(path, printable(text.getvalue()))
    return path


def number(value: float) -> str:
    """Returns the shortest text that is read back as the same number; "" if the number is not finite.

    Example:
        >>> number(0.1), number(15.0), number(math.nan)
        ('0.1', '15', '')
    """
    return repr(float(value)).removesuffix(".0") if math.isfinite(value) else ""


def read_number(text: str) -> float | None:
    """Returns the number that a cell has, NaN for an empty cell, and None for a text.

    Digits with underscores are a text, although `float` reads `1_2` as 12.

    Example:
        >>> read_number("-1.5e3"), read_number(" "), read_number("1_2"), read_number("babble")
        (-1500.0, nan, None, None)
    """
    try:
        return None if "_" in text else float(text) if text.strip() else math.nan
    except ValueError:
        return None


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Writes a JSON file; its folder is made if it is missing.

    Raises:
        OSError: the file can't be written. An earlier file of this name is unchanged.
        ValueError: a number is not finite.
    """
    make_folder(path.parent)
    write_whole(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
    return path
