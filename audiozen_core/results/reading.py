"""Reads scores that `audiozen evaluate`, a test or another program wrote, from a CSV file with one row per file."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from audiozen_core.errors import DataError
from audiozen_core.results.delimited import read_delimited
from audiozen_core.results.files import read_number
from audiozen_core.results.records import FileScores, MetricInfo
from audiozen_core.results.result_folders import KIND, find_results
from audiozen_core.results.scores import Scores

_EXTRA = ("note",)
"""The columns that are neither conditions nor metrics."""

_ID_COLUMN = "id"

_NO_VALUE = ("na", "n/a", "#n/a", "nan", "null", "none", "-", "–", "—")
"""Texts that other programs write into a cell if the value is missing."""


def read_scores(path: str | Path, *, state: str | None = None, conditions: Collection[str] = ()) -> Scores:
    """Reads the scores of each file.

    Args:
        path: a CSV file, a folder that `audiozen evaluate` wrote, the result folder of a test, or a run folder. In a
            run folder, the latest test is read.
        state: the state of the files to read from a test, such as `noisy`; by default, the output of the network.
        conditions: the columns that are conditions, for a CSV file without a JSON file next to it. By default, columns
            that contain anything but numbers are conditions, and all other columns are metrics.

    Raises:
        DataError: the file or folder has no scores, or two rows have the same ID.
        RunError: the run has no finished test, or the test has several data sets.
    """
    path = Path(path)
    file = path
    if path.is_dir():
        results = find_results(path)
        if results is None:
            raise DataError(
                f"the folder `{path}` has no scores",
                remedy="give a run folder, a folder with `scores.csv`, or a CSV file; "
                "`audiozen evaluate FOLDER -o OUT` computes the scores of audio files",
            )
        file = results / "scores.csv"
    header, rows = _read_csv(file)
    summary = _read_json(file.with_suffix(".json"))
    if KIND in summary:
        return _from_evaluate(file, summary, header, rows)
    if isinstance(summary.get("all"), dict) and isinstance(summary.get("metrics"), dict):
        return _from_test(file, summary, rows, state)
    return _from_other_program(file, header, rows, conditions)


def _from_evaluate(file: Path, summary: Mapping[str, Any], header: Sequence[str], rows: list[dict[str, str]]) -> Scores:
    metrics = _metrics(summary)
    _require(file, header, [metric.name for metric in metrics])
    conditions = tuple(summary.get("conditions", ()))
    missing = summary.get("missing", {})
    files = tuple(
        FileScores(
            row[_ID_COLUMN],
            {metric.name: _value(file, row, metric.name) for metric in metrics},
            {name: row.get(name, "") for name in conditions},
            {name: ids[row[_ID_COLUMN]] for name, ids in missing.items() if row[_ID_COLUMN] in ids},
        )
        for row in rows
    )
    return Scores(
        metrics,
        files,
        conditions,
        {"scores": str(file), **summary.get("sources", {})},
        tuple(summary.get("findings", ())),
        summary.get("left_out", {}),
    )


def _from_test(file: Path, summary: Mapping[str, Any], rows: list[dict[str, str]], state: str | None) -> Scores:
    """Reads the scores of one state from a test, from columns named after metric and state, as in `si_sdr_enhanced`."""
    metrics = _metrics(summary)
    first: Mapping[str, Any] = next(iter(summary["all"].values()), {})
    states = [name for name in first if name not in ("gain", "missing")]
    if state is not None and state not in states:
        raise DataError(
            f"`{file}` has no state `{state}`", remedy=f"choose one of {', '.join(states)}, or leave the state out"
        )
    chosen = state or (states[-1] if states else "")
    condition = next((key.removeprefix("by_") for key in summary if key.startswith("by_")), "")
    conditions = (condition,) if condition and any(row.get(condition) for row in rows) else ()
    files = tuple(
        FileScores(
            row[_ID_COLUMN],
            {metric.name: _value(file, row, f"{metric.name}_{chosen}") for metric in metrics},
            {name: row.get(name, "") for name in conditions},
            {
                metric.name: row["note"]
                for metric in metrics
                if row.get("note") and not row.get(f"{metric.name}_{chosen}")
            },
        )
        for row in rows
    )
    return Scores(metrics, files, conditions, {"scores": str(file), **({"state": chosen} if chosen else {})})


def _metrics(summary: Mapping[str, Any]) -> tuple[MetricInfo, ...]:
    return tuple(
        MetricInfo(
            name, info["label"], info["unit"], info["higher_is_better"], info.get("described", ""), identity=info
        )
        for name, info in summary["metrics"].items()
    )


def _from_other_program(
    file: Path, header: Sequence[str], rows: list[dict[str, str]], conditions: Collection[str]
) -> Scores:
    """Reads a CSV file from any program. Columns of numbers are metrics, and other columns are conditions."""
    columns = [name for name in header if name != _ID_COLUMN and name not in _EXTRA]
    _require(file, header, conditions)
    metrics = [name for name in columns if name not in conditions and _is_metric([row[name] for row in rows])]
    if not metrics:
        raise DataError(
            f"`{file}` has no column of numbers; it has {', '.join(header)}",
            notes=[
                f"`{row[name]}` as {name} of `{row[_ID_COLUMN]}` is not a number"
                for name in columns
                for row in rows
                if name not in conditions and _number(row[name]) is None
            ][:1],
            remedy="add a column for each metric, with a header",
        )
    others = tuple(name for name in columns if name not in metrics)
    files = tuple(
        FileScores(
            row[_ID_COLUMN],
            {name: _finite(_number(row[name])) for name in metrics},
            {name: row[name] for name in others},
        )
        for row in rows
    )
    return Scores(tuple(MetricInfo(name, name) for name in metrics), files, others, {"scores": str(file)})


def _is_metric(cells: Sequence[str]) -> bool:
    """Returns whether all cells of a column are numbers or missing values, with at least one number."""
    return None not in {_number(cell) for cell in cells} and any(
        cell.strip().lower() == "nan" or (cell.strip() and not _is_missing(cell)) for cell in cells
    )


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in _NO_VALUE


def _number(cell: str) -> float | None:
    return math.nan if _is_missing(cell) else read_number(cell)


def _read_csv(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Returns the header and the rows. If no column is named `id`, the first column is renamed to `id`."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"`{file}` is not a CSV file in UTF-8", remedy="give a CSV file, a result folder or a run folder"
        ) from error
    except OSError as error:
        raise DataError(f"`{file}` can't be read: {error.strerror}", remedy="check the path") from error
    header, records = read_delimited(file, text)
    if not records:
        raise DataError(f"`{file}` has no rows", remedy="give a CSV file with a header and one row for each file")
    if _ID_COLUMN not in header:
        header = [_ID_COLUMN, *header[1:]]
    rows: dict[str, dict[str, str]] = {}
    for record in records:
        row = dict(zip(header, record, strict=True))
        if not row[_ID_COLUMN]:
            raise DataError(f"a row of `{file}` has no ID", remedy="write the ID of the audio file, or remove the row")
        if row[_ID_COLUMN] in rows:
            raise DataError(
                f"`{file}` has two rows for `{row[_ID_COLUMN]}`", remedy="keep only one row for each audio file"
            )
        rows[row[_ID_COLUMN]] = row
    return header, list(rows.values())


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"`{file}` is not JSON", remedy="create it again, or delete it") from error
    return content if isinstance(content, dict) else {}


def _require(file: Path, header: Sequence[str], columns: Collection[str]) -> None:
    if lacking := [name for name in columns if name not in header]:
        raise DataError(
            f"`{file}` has no column `{lacking[0]}`; it has {', '.join(header)}", remedy="use one of these columns"
        )


def _value(file: Path, row: Mapping[str, str], column: str) -> float:
    cell = row.get(column, "")
    value = read_number(cell)
    if value is None:
        raise DataError(
            f"`{file}` has `{cell}` as {column} of `{row[_ID_COLUMN]}`, which is not a number",
            remedy="leave the cell empty if the file has no value",
        )
    return _finite(value)


def _finite(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else math.nan
