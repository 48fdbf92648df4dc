"""CSV and TSV files of any program: a header, and rows that fit to it."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import DataError

DELIMITERS = {".csv": ",", ".tsv": "\t"}


def read_delimited(path: Path, text: str) -> tuple[list[str], list[list[str]]]:
    """Returns the header and the rows, each with as many cells as the header. Empty lines are left out.

    A cell in quotes may have a line break.

    Args:
        path: the file, whose ending says what separates its columns: tabs in `.tsv`, commas in all others.
        text: its text.

    Raises:
        DataError: columns are separated by something else, two columns have the same name, or a row has more or fewer
            cells than the header.
    """
    delimiter = DELIMITERS.get(path.suffix.lower(), ",")
    records = [record for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if record]
    if not records:
        return [], []
    header, rows = records[0], records[1:]
    if len(header) == 1 and any(other in header[0] for other in ",;\t"):
        raise DataError(
            f"`{path}` has only the column `{header[0]}`, so its columns are separated by something else",
            remedy="separate them by tabs" if delimiter == "\t" else "separate them by commas, and write 2.5, not 2,5",
        )
    # Unnamed columns are those of a spreadsheet without content.
    if twice := [name for name, count in Counter(filter(None, header)).items() if count > 1]:
        raise DataError(f"`{path}` has several columns called {listed(twice)}", remedy="give each column its own name")
    for record in rows:
        if len(record) != len(header):
            raise DataError(
                f"a row of `{path}` has {len(record)} cells, but the header has {len(header)}: {record[0]}",
                remedy="write a text that has the separator in quotes, and an empty cell where a value is missing",
            )
    return header, rows
