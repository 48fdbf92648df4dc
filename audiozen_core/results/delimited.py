"""Reads CSV and TSV files from any program: a header, and rows with as many cells as the header."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import DataError

DELIMITERS = {".csv": ",", ".tsv": "\t"}


def read_delimited(path: Path, text: str) -> tuple[list[str], list[list[str]]]:
    """Returns the header and the rows, each with as many cells as the header. Empty lines are skipped.

    A cell in quotes may contain line breaks.

    Args:
        path: the file. Its suffix determines the separator: tabs for `.tsv`, commas for all other suffixes.
        text: the text of the file.

    Raises:
        DataError: columns are separated by another character, two columns have the same name, or a row has more or
            fewer cells than the header.
    """
    delimiter = DELIMITERS.get(path.suffix.lower(), ",")
    records = [record for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if record]
    if not records:
        return [], []
    header, rows = records[0], records[1:]
    if len(header) == 1 and any(other in header[0] for other in ",;\t"):
        raise DataError(
            f"`{path}` has only the column `{header[0]}`, so another character seems to separate its columns",
            remedy="separate columns by tabs"
            if delimiter == "\t"
            else "separate columns by commas, and write 2.5 instead of 2,5",
        )
    # Several columns may be unnamed: spreadsheets export empty columns without a name.
    if repeated := [name for name, count in Counter(filter(None, header)).items() if count > 1]:
        raise DataError(
            f"`{path}` has several columns called {listed(repeated)}", remedy="give each column its own name"
        )
    for record in rows:
        if len(record) != len(header):
            raise DataError(
                f"a row of `{path}` has {len(record)} cells, but the header has {len(header)}: {record[0]}",
                remedy="put text that contains the separator in quotes, and leave a cell empty if its value is missing",
            )
    return header, rows
