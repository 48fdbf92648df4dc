"""Formats a list of runs as a table, Markdown, JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, get_args

from audiozen_core.diagnostics.clock import clock
from audiozen_core.diagnostics.listed import listed
from audiozen_core.kinds import affects
from audiozen_core.results.aligning import width as width_of
from audiozen_core.results.files import finite_or_none, number
from audiozen_core.results.tables import FormattedTable
from audiozen_core.runs.listing import ListedRun, RunList
from audiozen_core.runs.summary import EpochScore, RunSummary

RunForm = Literal["table", "json", "csv", "markdown"]
FORMS: tuple[RunForm, ...] = get_args(RunForm)

_ABSENT = "-"
_LONGEST_VALUE = 24
_LEAST_REASON, _LONGEST_REASON = 20, 60
# Runs of different networks differ in dozens of settings, which do not fit on a screen.
_MOST_SETTINGS = 8
_GAP = 2  # the spaces between two columns


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table for the terminal.

    Attributes:
        headings: the headings of the columns.
        rows: the cells of each row.
        right: the headings of the columns that are right-aligned.
        notes: lines below the table.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[str]
    notes: Sequence[str]


def as_table(runs: RunList, *, width: int | None = None, now: datetime | None = None) -> TextTable:
    """Returns the runs as a table that includes the most important settings that differ.

    Settings that do not fit are left out, and reasons are shortened.

    Args:
        runs: the runs.
        width: the width of the terminal in characters; None for no limit.
        now: the current time, with a time zone; None reads the clock.
    """
    now = now or datetime.now(timezone.utc)
    columns: dict[str, Sequence[str]] = {
        "run": [plain(each.name) for each in runs.runs],
        "state": [each.run.state for each in runs.runs],
        "epoch": [_epoch(each.run) for each in runs.runs],
        "best": [_score(each.run.best) for each in runs.runs],
        "at": [str(each.run.best.epoch) if each.run.best else _ABSENT for each in runs.runs],
        "last": [_score(each.run.last) for each in runs.runs],
        "test": [_test(each.run) for each in runs.runs],
        "time": [_time(each.run) for each in runs.runs],
        "written": [_ago(each.run.written, now) for each in runs.runs],
    }
    right = ["epoch", "best", "at", "last", "time", "written"]
    used = sum(max(map(width_of, [name, *cells])) + _GAP for name, cells in columns.items())
    reasons = [_first_line(each.run.reason) if each.run.state != "finished" else "" for each in runs.runs]
    reserved = min(max(map(len, reasons), default=0), _LEAST_REASON) + _GAP if any(reasons) else 0
    left_out, most = [], len(columns) + _MOST_SETTINGS
    headings = _short_keys(runs.varying_keys)
    for key in _by_importance(runs.varying_keys):
        cells = [_value(each.settings.get(key)) for each in runs.runs]
        needed = max(map(width_of, [headings[key], *cells])) + _GAP
        if len(columns) == most or (width is not None and used + needed + reserved > width):
            left_out.append(key)
            continue
        used += needed
        columns[headings[key]] = cells
        if all(_is_number(each.settings.get(key)) for each in runs.runs):
            right.append(headings[key])
    if any(reasons):
        room = max(width - used, _LEAST_REASON) if width is not None else _LONGEST_REASON
        columns["reason"] = [_cut(reason, room) for reason in reasons]
    notes = [_legend(runs.runs)]
    if left_out:
        notes.append(f"more settings differ, and `--format json` shows their values: {listed(left_out)}")
    rows = list(zip(*columns.values(), strict=True))
    return TextTable(list(columns), rows, right, [plain(note) for note in notes if note])


def as_markdown(runs: RunList) -> str:
    """Returns the runs as a Markdown table."""
    table = as_table(runs)
    return FormattedTable(table.headings, [table.rows], table.notes, left=2).render("markdown")


def as_json(runs: RunList) -> str:
    """Returns everything that is known about the runs as a JSON list of objects. NaN and infinity become null."""
    return json.dumps([_as_data(each) for each in runs.runs], indent=2, allow_nan=False)


def as_csv(runs: RunList) -> str:
    """Returns the runs as CSV, with the settings that differ in the last columns. Unknown values are empty cells."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    facts = ("run", "state", "reason", "epoch", "max_epochs", "step", "monitor")
    results = ("best", "best_epoch", "last", "last_epoch", "training_seconds", "written", "tested", "test_score")
    writer.writerow([*facts, *results, *runs.varying_keys])
    for each in runs.runs:
        data, main = _as_data(each), _main_test(each.run)
        best, last = data["best"] or {}, data["last"] or {}
        row = [data[name] for name in facts]
        row += [best.get("score"), best.get("epoch"), last.get("score"), last.get("epoch")]
        row += [data["training_seconds"], data["written"]]
        row += [main[0] if main else "", number(main[1]) if main else ""]
        writer.writerow(
            ["" if cell is None else cell for cell in row + [each.settings.get(k) for k in runs.varying_keys]]
        )
    return text.getvalue().rstrip("\n")


def _as_data(each: ListedRun) -> dict[str, Any]:
    run = each.run
    return {
        "run": each.name,
        "folder": str(run.folder),
        "state": run.state,
        "reason": run.reason,
        "epoch": run.epoch,
        "max_epochs": run.max_epochs,
        "step": run.step,
        "monitor": run.monitor,
        "higher_is_better": run.higher_is_better,
        "best": _score_data(run.best),
        "last": _score_data(run.last),
        "training_seconds": run.training_seconds,
        "training_seconds_partial": run.is_time_partial,
        "written": run.written.isoformat(timespec="seconds") if run.written else None,
        "starts": len(run.sessions),
        "tests": [
            {
                "folder": test.folder,
                "ended": test.ended,
                "scalars": {name: finite_or_none(value) for name, value in test.scalars.items()},
            }
            for test in run.tests
        ],
        "settings": dict(each.settings),
    }


def _score_data(score: EpochScore | None) -> dict[str, float | None] | None:
    if score is None:
        return None
    return {"score": finite_or_none(score.score), "epoch": score.epoch}


# ------------------------------------------------------------------------------- cells


def plain(text: str) -> str:
    r"""Replaces unprintable characters with escape sequences, because they could control the terminal.

    Example:
        >>> print(plain("a\x1b[2J\nb"))
        a\x1b[2J\nb
    """
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _first_line(text: str) -> str:
    return plain(text.splitlines()[0]) if text else ""


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 3]}..."


def _epoch(run: RunSummary) -> str:
    return f"{run.epoch}/{run.max_epochs}" if run.max_epochs is not None else str(run.epoch)


def _score(score: EpochScore | None) -> str:
    return _ABSENT if score is None else f"{score.score:.4g}"


def _main_test(run: RunSummary) -> tuple[str, float] | None:
    """Returns the first scalar of the newest test: its name, such as `si_sdr`, and its value."""
    if not run.tests:
        return None
    name, value = next(iter(run.tests[-1].scalars.items()), ("", math.nan))
    return name.removeprefix("test/"), value


def _test(run: RunSummary) -> str:
    main = _main_test(run)
    if main is None:
        return _ABSENT
    return f"{plain(main[0])} {main[1]:.4g}" if main[0] else "yes"


def _time(run: RunSummary) -> str:
    if run.training_seconds is None:
        return _ABSENT
    return f"{'>' * run.is_time_partial}{clock(run.training_seconds)}"


def _ago(written: datetime | None, now: datetime) -> str:
    if written is None:
        return _ABSENT
    seconds = max(0, round((now - written).total_seconds()))
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds // unit} {name} ago"
    return f"{seconds} s ago"


def _legend(runs: Sequence[ListedRun]) -> str:
    monitors = sorted({each.run.monitor for each in runs if each.run.monitor})
    states = Counter(each.run.state for each in runs)
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    scores = f"; best and last: {', '.join(monitors)}" if monitors else ""
    return f"{len(runs)} run{'s' * (len(runs) != 1)}: {counts}{scores}" if runs else "no runs in these states"


def _by_importance(keys: Sequence[str]) -> list[str]:
    """Sorts keys: paths of components first, other settings next, and settings of hooks and test data last."""

    def rank(key: str) -> int:
        section = key.partition(".")[0]
        return 0 if key.endswith(".path") else 2 if section == "hooks" or not affects(section, "training") else 1

    return sorted(keys, key=rank)


def _short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Returns the last part of each key, or the whole key if the last part is not unique."""
    short = {key: (key.removesuffix(".path") if key.endswith(".path") else key.rpartition(".")[2]) for key in keys}
    taken = {"run", "state", "epoch", "best", "at", "last", "test", "time", "written", "reason"}
    counts = Counter(short.values())
    return {key: plain(name if counts[name] == 1 and name not in taken else key) for key, name in short.items()}


def _value(text: str | None) -> str:
    if text is None:
        return _ABSENT
    is_simple = len(text) > 2 and text[0] == text[-1] == '"' and "\\" not in text
    return _cut(plain(text[1:-1] if is_simple else text), _LONGEST_VALUE)


def _is_number(text: str | None) -> bool:
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True
