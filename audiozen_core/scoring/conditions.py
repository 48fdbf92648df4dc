"""Finds the conditions of files, such as the signal-to-noise ratio, in a table, folder names or file names."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from audiozen_core.diagnostics.listed import listed
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.errors import RunError
from audiozen_core.results.id_table import IdTable

# Names that score files use for other columns and keys, so a condition can't have them.
_TAKEN = ("id", "note", "files", "means")
_LEVEL = re.compile(r"folder([1-9]\d*)")
_NUMBER = re.compile(r"\+?(-?(?:0|[1-9]\d*))(?:\.(\d*?)0*)?")
_PAIRS = re.compile(r"(?<![A-Za-z0-9])([A-Za-z]+)[_=](-?[A-Za-z0-9]+(?:\.\d+)?)")


def check_condition_names(names: Sequence[str], metrics: Collection[str]) -> None:
    """Checks that each name of a condition is unique in the score files.

    Args:
        names: the names of the conditions.
        metrics: the names of the metrics.

    Raises:
        RunError: a condition is named twice, or its name belongs to a metric or to another entry of the score files.
    """
    for place, name in enumerate(names):
        if name in names[:place]:
            raise RunError(f"the condition `{name}` is given twice", remedy="give each condition once")
        if name in _TAKEN or name in metrics:
            raise RunError(
                f"a condition can't be called `{name}`, because the score files have "
                f"{'a metric' if name in metrics else 'another entry'} with this name",
                remedy="rename the column or the condition",
            )


def conditions_of(
    names: Sequence[str], ids: Sequence[str], table: IdTable | None
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Finds the values of the conditions of each file.

    For each condition, the first source that applies is used for all files:

    1. the column with the name of the condition, if the table has this column;
    2. for `folder1`, `folder2`, …, the name of the folder at level 1, 2, …, counted from the outermost folder;
    3. `NAME_VALUE` or `NAME=VALUE` in the path of a file: `snr_5`, `snr_-2.5`, `noise_babble`. The separator before a
       number can be left out: `snr5`.

    Args:
        names: the names of the conditions.
        ids: the IDs of the files: their paths without extensions.
        table: the table, if there is one.

    Returns:
        For each ID, the value of each condition ("" if it is unknown); and messages about files without a value.

    Raises:
        RunError: a condition has no value for any file.
    """
    values_by_id: dict[str, dict[str, str]] = {name: {} for name in ids}
    findings = []
    for name in names:
        values = _values(name, ids, table)
        if not any(values.values()):
            raise _unknown(name, ids, table)
        for key, value in values.items():
            values_by_id[key][name] = canonical_number(value)
        if without := [key for key, value in values.items() if not value]:
            findings.append(
                f"{len(without)} of {len(ids)} files have no value for the condition `{name}`: {listed(without)}"
            )
    return values_by_id, findings


def canonical_number(value: str) -> str:
    """Returns a number in its shortest form, and any other text unchanged: `5.0` and `+5` become `5`.

    Example:
        >>> [canonical_number(value) for value in ("+5", "5.0", "-2.50", "-0.0", "007", "1e5", "babble")]
        ['5', '5', '-2.5', '0', '007', '1e5', 'babble']
    """
    match = _NUMBER.fullmatch(value)
    if match is None:
        return value
    shortest = f"{match[1]}.{match[2]}" if match[2] else match[1]
    return "0" if shortest == "-0" else shortest


def _values(name: str, ids: Sequence[str], table: IdTable | None) -> dict[str, str]:
    if table is not None and name in table.columns:
        return {key: (table.find(key) or {}).get(name, "").strip() for key in ids}
    if level := _LEVEL.fullmatch(name):
        depth = int(level[1])
        folders = {key: key.split("/")[:-1] for key in ids}
        return {key: parts[depth - 1] if depth <= len(parts) else "" for key, parts in folders.items()}
    pattern = re.compile(
        rf"(?<![A-Za-z0-9]){re.escape(name)}(?:[_=](-?[A-Za-z0-9]+(?:\.\d+)?)|(-?\d+(?:\.\d+)?))", re.IGNORECASE
    )
    return {key: match[1] or match[2] if (match := pattern.search(key)) else "" for key in ids}


def _unknown(name: str, ids: Sequence[str], table: IdTable | None) -> RunError:
    columns = [column for column in table.columns if column not in _TAKEN] if table is not None else []
    levels = [f"folder{depth}" for depth in range(1, max((key.count("/") for key in ids), default=0) + 1)]
    in_names = sorted({match[1] for key in ids for match in _PAIRS.finditer(key)})
    choices = [*columns, *levels, *in_names[:20]]
    note = did_you_mean(nearest(name, choices))
    return RunError(
        f"no file has the condition `{name}`{f': {note}' if note else ''}",
        notes=[f"known: {', '.join(f'`{choice}`' for choice in choices) or 'none'}"],
        remedy=f"add a column `{name}` with `--conditions FILE`, name files like `{name}_5`, or use `folder1` for the "
        "outermost folder",
    )
