"""Formats the measured rows as a table, for a terminal and for docs/performance.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import rich.table

from audiozen_core.results.tables import FormattedTable

HEADINGS = ("what", "ours", "peer", "rounds", "ratio or difference", "goal", "met")


def for_terminal(measured: Sequence[Mapping[str, Any]]) -> rich.table.Table:
    """Returns a table of rich with all rows, including those that failed."""
    table = rich.table.Table(*HEADINGS, title="AudioZEN compared with its peers")
    for row in measured:
        table.add_row(*cells(row))
    return table


def for_page(measured: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]) -> str:
    """Returns a table in Markdown. Below it, a note names the command, the machine and the version of Python."""
    note = f"Measured by `make bench` on {machine['cores']} cores ({machine['processor']}), Python {machine['python']}."
    return FormattedTable(HEADINGS, [[cells(row) for row in measured]], [note]).render("markdown")


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the cells of one row. If the measurement failed, the column of the peer has the reason.

    The column of the ratio has the difference instead if the goal is about the difference.
    """
    if "failed" in row:
        return (row["what"], "not measured", row["failed"], *[""] * (len(HEADINGS) - 3))
    compared, goal, verdict = figure(row["ratio"]), "", ""
    if row["goal"] is not None:
        goal = f"{row['goal']['direction']} {row['goal']['limit']:.3g}"
        if row["goal"]["figure"] != "ratio":
            goal = f"{row['goal']['figure']} {goal} {row['unit']}"
        if row["goal"]["figure"] == "difference":
            compared = f"{figure(row['difference'])} {row['unit']}"
        verdict = "yes" if row["met"] else "no"
    return (
        row["what"],
        f"{figure(row['ours'])} {row['unit']}",
        f"{figure(row['peer'])} ({row['peer_name']})",
        str(row["rounds"]),
        compared,
        goal,
        verdict,
    )


def figure(value: Mapping[str, float]) -> str:
    """Formats a median, followed by the quartiles if they differ."""
    median, low, high = (digits(value[name]) for name in ("median", "low", "high"))
    return median if low == high else f"{median} [{low}, {high}]"


def digits(value: float) -> str:
    """Formats a number with three significant digits; from 100 on, as a whole number."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
