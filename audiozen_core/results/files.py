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
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([cell if isinstance(cell, str) else number(cell) for cell in row])
    make_folder(path.parent)
    write_whole(path, printable(text.getvalue()))
    write_json(path.with_name(f"{path.stem}.metrics.json"), identities)
    return path


def number(value: float) -> str:
    """Returns the shortest text that is read back as the same number; "" if the number is not finite.

    Example:
        >>> number(0.1), number(15.0), number(math.nan)
        ('0.1', '15', '')
    """
    return repr(float(value)).removesuffix(".0") if math.isfinite(value) else ""


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Writes a JSON file; its folder is made if it is missing.

    Raises:
        OSError: the file can't be written. An earlier file of this name is unchanged.
        ValueError: a number is not finite.
    """
    make_folder(path.parent)
    write_whole(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
    return path
