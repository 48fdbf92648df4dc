"""Reads a manifest: a CSV file that lists recordings of speech and noise."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from audiozen_core.errors import DataError

COLUMNS = ("file", "role", "voice", "kind", "split")
"""The columns that a manifest must have. Other columns are ignored."""


def read_manifest_rows(manifest: Path) -> Iterator[dict[str, str]]:
    """Reads the rows of a manifest, one after another.

    Raises:
        DataError: the manifest is missing, can't be read, or lacks a column or a value; a voice or a kind of noise
            contains `/`.
    """
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            yield from _rows(manifest, csv.DictReader(file))
    except FileNotFoundError as error:
        raise DataError(
            f"the manifest `{manifest}` does not exist", remedy=f"relative paths are resolved from `{Path.cwd()}`"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"the manifest `{manifest}` is not in UTF-8: {error}", remedy="save it in UTF-8") from error
    except OSError as error:
        raise DataError(
            f"the manifest `{manifest}` can't be read: {error.strerror}",
            remedy="check that it is a file and that you have permission to read it",
        ) from error


def _rows(manifest: Path, reader: csv.DictReader[str]) -> Iterator[dict[str, str]]:
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise DataError(
            f"the manifest `{manifest}` has no column {', '.join(f'`{column}`' for column in missing)}",
            remedy=f"name at least these columns in its first line: {','.join(COLUMNS)}",
        )
    for row in reader:
        if any(row[column] is None for column in COLUMNS):
            raise DataError(
                f"line {reader.line_num} of `{manifest}` has too few values", remedy="add a value for each column"
            )
        column = label_column(row["role"])
        if "/" in row[column]:
            raise DataError(
                f"line {reader.line_num} of `{manifest}`: the {column} `{row[column]}` contains `/`, but it becomes a "
                "part of file names",
                remedy="use another character, such as `-`",
            )
        yield row


def label_column(role: str) -> str:
    """Returns the column whose value becomes part of a recording's name."""
    return "voice" if role == "speech" else "kind"
