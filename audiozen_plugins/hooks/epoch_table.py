"""The table that the hook `progress` draws on a terminal, with a row for each validation and each epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# These endings mark the scores of the network's input.
_BASELINES = ("_noisy", "_mixture")
# The initial widths of columns. Few values need a wider column, which needs a new header.
_LEAST_WIDTHS = {"epoch": 5, "best": 4, "lr": 8, "time": 5, "left": 5}
_LEAST_WIDTH = 7
_LONGEST_HEADING = 18
_BETWEEN = "  "

_BOLD, _DIM, _GREEN, _RESET = "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class EpochRow:
    """The content of a row.

    Attributes:
        epoch: the epoch or step of the row as text, such as `3/100`.
        metrics: the scalars by their names in records, such as `train/loss`, without the learning rates.
        rate: the learning rates as one text; "" without a learning rate.
        is_best: whether the validation is the best so far.
        seconds: the duration of the epoch; None if the epoch has not ended.
        left: the remaining time of the training run in seconds; None if it is not known.
    """

    epoch: str
    metrics: Mapping[str, float]
    rate: str
    is_best: bool
    seconds: float | None
    left: float | None


@dataclass(frozen=True, slots=True)
class _Column:
    name: str  # the name of a scalar or of a field of `EpochRow`
    heading: str
    priority: int


class EpochTable:
    """Makes the lines of a table that grows row by row.

    The header comes before the first row, and again when the columns change: when a row has a new scalar, when a value
    needs a wider column, or when the width of the terminal has changed. If not all scalars fit, only the most important
    scalars are shown. The scalars of the network's input are in a row below the header.

    Args:
        colours: whether lines may contain escape sequences for colours.
        unicode: whether lines may contain characters that are not ASCII.
        longest_name: the expected length of the longest name of an epoch or step.
    """

    def __init__(self, *, colours: bool, unicode: bool, longest_name: int = 0) -> None:
        from rich.cells import cell_len  # imported here, so that `audiozen check` doesn't import rich

        self._colours, self._width = colours, cell_len
        self._mark, self._absent, self._cut = ("★", "–", "…") if unicode else ("*", "-", "~")
        self._names: dict[str, None] = {}
        self._has_rate = False
        self._score = ""  # the name of the metric that is the score
        self._widths = {"epoch": max(longest_name, _LEAST_WIDTHS["epoch"])}
        self._baseline_cells: dict[str, str] = {}  # the cells of the row below the header
        self._shown: tuple[tuple[str, int], ...] = ()

    def lines(self, row: EpochRow, width: int) -> list[str]:
        """Returns the lines for a row, with a header before the row if the columns changed.

        Args:
            row: the row.
            width: the number of columns of the terminal.
        """
        self._note(row)
        cells = self._cells(row)
        columns = self._columns()
        self._baseline_cells |= self._baselines(row.metrics)
        for column in columns:
            texts = (column.heading, cells[column.name], self._baseline_cells.get(column.name, ""))
            least = _LEAST_WIDTHS.get(column.name, _LEAST_WIDTH)
            self._widths[column.name] = max(self._widths.get(column.name, least), *map(self._width, texts))
        chosen = self._fitting(columns, width)
        shown = tuple((column.name, self._widths[column.name]) for column in chosen)
        lines = []
        if shown != self._shown:
            self._shown = shown
            lines.append(self._line(chosen, {column.name: column.heading for column in chosen}, _BOLD))
            if any(column.name in self._baseline_cells and "/" in column.name for column in chosen):
                lines.append(self._line(chosen, self._baseline_cells, _DIM))
        lines.append(self._line(chosen, cells, "", is_best=row.is_best))
        return lines

    def _note(self, row: EpochRow) -> None:
        """Remembers the scalars of a row. The metric whose value equals the score is the metric of the score."""
        self._names |= dict.fromkeys(row.metrics)
        self._has_rate |= bool(row.rate)
        score = row.metrics.get("validate/score", 0.0)
        if not self._score and score and math.isfinite(score):
            same = [name for name, value in row.metrics.items() if value == score and name != "validate/score"]
            self._score = next((name for name in same if name.startswith("validate/")), "")

    def _columns(self) -> list[_Column]:
        """Returns the columns from left to right. If they don't fit, columns of low priority are left out first."""
        names = [name for name in self._names if name != self._score and not self._is_baseline(name)]
        train = [name for name in names if not name.startswith("validate/")]
        validate = [name for name in names if name.startswith("validate/") and name != "validate/score"]
        main = next((name for name in train if name == "train/loss"), train[0] if train else "")
        columns = [_Column("epoch", "epoch", 100)]
        columns += [_Column(name, self._heading(name), 99 if name == main else 10) for name in train]
        if "validate/score" in self._names:
            columns.append(_Column("validate/score", self._heading(self._score or "validate/score"), 98))
            columns.append(_Column("best", "best", 97))
        columns += [_Column(name, self._heading(name), 20) for name in validate]
        columns += [_Column("lr", "lr", 30)] * self._has_rate
        return [*columns, _Column("time", "time", 50), _Column("left", "left", 40)]

    def _heading(self, name: str) -> str:
        kind, _, short = name.partition("/")
        if kind == "validate" and f"train/{short}" in self._names:
            short = f"val {short}"
        short = short or kind
        return short if len(short) <= _LONGEST_HEADING else short[: _LONGEST_HEADING - 1] + self._cut

    def _is_baseline(self, name: str) -> bool:
        return any(name.endswith(end) and name.removesuffix(end) in self._names for end in _BASELINES)

    def _baselines(self, metrics: Mapping[str, float]) -> dict[str, str]:
        found = {}
        for name, value in metrics.items():
            for end in _BASELINES:
                metric = name.removesuffix(end)
                if metric != name and metric in self._names:
                    found["validate/score" if metric == self._score else metric] = _number(value)
                    found["epoch"] = end[1:]
        return found

    def _cells(self, row: EpochRow) -> dict[str, str]:
        cells = {name: _number(row.metrics[name]) if name in row.metrics else self._absent for name in self._names}
        cells["epoch"], cells["lr"] = row.epoch, row.rate or self._absent
        cells["best"] = self._mark if row.is_best else ""
        cells["time"] = self._absent if row.seconds is None else short_duration(row.seconds)
        cells["left"] = self._absent if row.left is None else short_duration(row.left)
        return cells

    def _fitting(self, columns: Sequence[_Column], width: int) -> list[_Column]:
        room, chosen = width - 1, set[str]()
        for column in sorted(columns, key=lambda column: -column.priority):
            needed = self._widths[column.name] + len(_BETWEEN)
            if needed <= room or not chosen:
                room -= needed
                chosen.add(column.name)
        return [column for column in columns if column.name in chosen]

    def _line(self, columns: Sequence[_Column], cells: Mapping[str, str], style: str, *, is_best: bool = False) -> str:
        texts = []
        for column in columns:
            width, cell = self._widths[column.name], cells.get(column.name, "")
            gap = width - self._width(cell)
            # The star of the best epoch is in the middle of its column. All other cells are aligned to the right.
            after = gap // 2 if column.name == "best" else 0
            text = " " * (gap - after) + cell + " " * after
            if is_best and self._colours and column.name in ("validate/score", "best"):
                text = f"{_GREEN}{text}{_RESET}"
            texts.append(text)
        line = _BETWEEN.join(texts).rstrip()
        return f"{style}{line}{_RESET}" if style and self._colours else line


def short_duration(seconds: float) -> str:
    """Returns a duration as a short text with its units.

    Example:
        >>> [short_duration(seconds) for seconds in (0.42, 12.3, 59.7, 205, 7380, 273_600)]
        ['0.4s', '12s', '1m00s', '3m25s', '2h03m', '3d04h']
    """
    if seconds < 0.05:
        return "0s"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours < 24 else f"{hours // 24}d{hours % 24:02}h"


def _number(value: float) -> str:
    """Returns a number with exactly four digits, so that the numbers of a column have the same width."""
    return f"{value:#.4g}".rstrip(".") if math.isfinite(value) else str(value)
