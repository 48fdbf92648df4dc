"""Files that say something about each audio file: a manifest with conditions, or the spoken texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from audiozen_core.errors import DataError
from audiozen_core.results.delimited import DELIMITERS, read_delimited
from audiozen_core.storage.audio_suffixes import AUDIO_SUFFIXES

_ID_COLUMNS = ("id", "file", "path", "name", "filename", "utt", "utterance")


class IdTable:
    """What a file says about each audio file, by its ID.

    Args:
        path: the file.
        rows: for each audio file, the text of each column.
        columns: the names of the columns besides the ID.
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
                    f"`{path}` has two different rows for `{name}`", remedy="leave one row for each audio file"
                )
            if key not in self._rows:
                self._by_name.setdefault(PurePosixPath(key).name, []).append(key)
            self._rows[key] = row

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, name: str) -> Mapping[str, str] | None:
        """Returns the row of an audio file.

        If no row has its path, it is the only row whose path ends with that of the file, or the other way round: `x/1`
        finds `1` and `/data/x/1`, but not `y/1`.

        Args:
            name: the ID: the path within its folder, without the ending.
        """
        key = audio_id(name)
        if key in self._rows:
            return self._rows[key]
        same = [row for row in self._by_name.get(PurePosixPath(key).name, ()) if _ends_with(row, key)]
        return self._rows[same[0]] if len(same) == 1 else None


def read_id_table(path: str | Path, *, text: bool = False) -> IdTable:
    """Reads a CSV or TSV file with a header, a JSONL file, or a list of texts.

    - In a CSV or TSV file, the ID is in the column `id` ; if it has none, in the first of `file`, `path`, `name`,
      `filename`, `utt` and `utterance` that exists, or else in the first column.
    - In a JSONL file, each line is an object with one of these keys.
    - Every other file is a list of texts: each line has an ID, a space or a tab, and the text.

    An ID is a path within its folder. An audio ending such as `.wav` is not part of it.

    Args:
        path: the file, in UTF-8.
        text: whether the file has texts, which are then in the column `text`.

    Raises:
        DataError: the file is missing, empty, not UTF-8, or not of such a form.
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
        raise DataError(f"`{path}` has no rows", remedy="give each audio file a row")
    columns = tuple(dict.fromkeys(name for _, row in rows for name in row))
    if text and "text" not in columns:
        raise DataError(
            f"`{path}` has no column `text`; it has {', '.join(columns)}", remedy="call the column of the texts `text`"
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
                    f"line {number} of `{path}` is not JSON: {error.msg}", remedy="write one object in each line"
                ) from error
            if not isinstance(value, dict):
                raise DataError(f"line {number} of `{path}` is not an object", remedy='write {"id": …, …}')
            yield _split(path, {key: _text(cell) for key, cell in value.items()}, "")
    else:
        for line in content.splitlines():
            if line.strip():
                name, _, said = line.strip().partition("\t" if "\t" in line else " ")
                yield name, {"text": said.strip()}


def _split(path: Path, cells: dict[str, str], first: str) -> tuple[str, dict[str, str]]:
    columns = {name.lower(): name for name in cells}
    column = next((columns[name] for name in _ID_COLUMNS if name in columns), first)
    if not column:
        raise DataError(
            f"a row of `{path}` has no ID; it has {', '.join(cells) or 'nothing'}",
            remedy=f"name the key one of {', '.join(_ID_COLUMNS)}",
        )
    return cells.pop(column), cells


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _ends_with(one: str, other: str) -> bool:
    """Returns whether one of two paths ends with the other."""
    longer, shorter = sorted((f"/{one.lstrip('/')}", f"/{other.lstrip('/')}"), key=len, reverse=True)
    return longer.endswith(shorter)


def audio_id(name: str) -> str:
    """Returns the ID that a path or a file name stands for: with `/` between folders, and without an audio ending."""
    path = PurePosixPath(name.replace("\\", "/"))
    return (path.with_suffix("") if path.suffix.lower() in AUDIO_SUFFIXES else path).as_posix()
