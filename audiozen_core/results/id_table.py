"""Reads tables with one row for each audio file, such as a manifest with conditions or a list of transcripts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from audiozen_core.errors import DataError
from audiozen_core.results.delimited import DELIMITERS, read_delimited
from audiozen_core.storage.audio_suffixes import AUDIO_SUFFIXES

_ID_COLUMNS = ("id", "file", "path", "name", "filename", "utt", "utterance")


class IdTable:
    """A table with one row for each audio file. Rows are found by the IDs of the files.

    Args:
        path: the file that the table was read from.
        rows: for each audio file, its name and the text of each column.
        columns: the names of the columns, without the ID column.

    Raises:
        DataError: an audio file has two different rows.
    """

    def __init__(self, path: Path, rows: Iterable[tuple[str, Mapping[str, str]]], columns: Iterable[str]) -> None:
        self.path = path
        self.columns = tuple(columns)
        self._rows: dict[str, Mapping[str, str]] = {}
        self._by_name: dict[str, list[str]] = {}
        for name, row in rows:
            key = audio_id(name)
            if key in self._rows and dict(self._rows[key]) != dict(row):
                raise DataError(
                    f"`{path}` has two different rows for `{name}`", remedy="keep only one row for each audio file"
                )
            if key not in self._rows:
                self._by_name.setdefault(PurePosixPath(key).name, []).append(key)
            self._rows[key] = row

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, name: str) -> Mapping[str, str] | None:
        """Returns the row of an audio file, or None.

        If no row has exactly this ID, the paths are compared from their ends: `x/1` finds `1` and `/data/x/1`, but not
        `y/1`. The result is None if several rows match.

        Args:
            name: the ID: the path of the audio file within its folder, without the file extension.
        """
        key = audio_id(name)
        if key in self._rows:
            return self._rows[key]
        matches = [row for row in self._by_name.get(PurePosixPath(key).name, ()) if _ends_with(row, key)]
        return self._rows[matches[0]] if len(matches) == 1 else None


def read_id_table(path: str | Path, *, text: bool = False) -> IdTable:
    """Reads a CSV or TSV file with a header, a JSONL file, or a list of IDs and texts.

    - In a CSV or TSV file, the ID column is the first of `id`, `file`, `path`, `name`, `filename`, `utt` and
      `utterance` that exists, or else the first column of the file.
    - In a JSONL file, each line is an object. The ID is under the first of these keys that exists.
    - In any other file, each line has an ID, a space or a tab, and the text.

    An ID is a path within its folder, without the extension of an audio file, such as `.wav`.

    Args:
        path: the file, in UTF-8.
        text: whether the column `text` is required.

    Raises:
        DataError: the file is missing, empty, not UTF-8, or in another format.
    """
    path = Path(path)
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"`{path}` is not UTF-8: {error.reason} at byte {error.start}", remedy="save it as UTF-8"
        ) from (error)
    except OSError as error:
        raise DataError(f"`{path}` can't be read: {error.strerror}", remedy="check the path") from error
    rows = list(_rows(path, content))
    if not rows:
        raise DataError(f"`{path}` has no rows", remedy="add one row for each audio file")
    columns = tuple(dict.fromkeys(name for _, row in rows for name in row))
    if text and "text" not in columns:
        raise DataError(
            f"`{path}` has no column `text`; it has {', '.join(columns)}",
            remedy="name the column with the texts `text`",
        )
    return IdTable(path, rows, columns)


def _rows(path: Path, content: str) -> Iterator[tuple[str, dict[str, str]]]:
    suffix = path.suffix.lower()
    if suffix in DELIMITERS:
        header, records = read_delimited(path, content)
        for record in records:
            yield _split(path, dict(zip(header, record, strict=True)), header[0])
    elif suffix in (".jsonl", ".json", ".ndjson"):
        for number, line in enumerate(content.splitlines(), 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"line {number} of `{path}` is not JSON: {error.msg}", remedy="write one object on each line"
                ) from error
            if not isinstance(value, dict):
                raise DataError(f"line {number} of `{path}` is not an object", remedy='write {"id": …, …}')
            yield _split(path, {key: _text(cell) for key, cell in value.items()}, "")
    else:
        for line in content.splitlines():
            if line.strip():
                name, _, text = line.strip().partition("\t" if "\t" in line else " ")
                yield name, {"text": text.strip()}


def _split(path: Path, cells: dict[str, str], default: str) -> tuple[str, dict[str, str]]:
    """Splits a row into its ID and its other cells. `default` is the ID column if no column has a known name."""
    columns = {name.lower(): name for name in cells}
    column = next((columns[name] for name in _ID_COLUMNS if name in columns), default)
    if not column:
        raise DataError(
            f"a row of `{path}` has no ID; it has {', '.join(cells) or 'nothing'}",
            remedy=f"put the ID under one of the keys {', '.join(_ID_COLUMNS)}",
        )
    return cells.pop(column), cells


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _ends_with(first: str, second: str) -> bool:
    """Returns whether the longer of two paths ends with the shorter path."""
    longer, shorter = sorted((f"/{first.lstrip('/')}", f"/{second.lstrip('/')}"), key=len, reverse=True)
    return longer.endswith(shorter)


def audio_id(name: str) -> str:
    """Returns a path or a file name as an ID: with `/` between folders, and without the extension of an audio file."""
    path = PurePosixPath(name.replace("\\", "/"))
    return (path.with_suffix("") if path.suffix.lower() in AUDIO_SUFFIXES else path).as_posix()
