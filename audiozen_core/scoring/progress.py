"""Shows a progress bar with the remaining time."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

import click

Item = TypeVar("Item")


def with_progress(items: Iterable[Item], *, total: int, label: str, shown: bool) -> Iterator[Item]:
    """Yields the items, and shows a progress bar on standard error if standard error is a terminal.

    Args:
        items: the items to yield.
        total: the number of items.
        label: the text before the bar.
        shown: whether to show the bar.
    """
    if not shown or not total:
        yield from items
        return
    with click.progressbar(
        items, length=total, label=label, file=sys.stderr, show_pos=True, hidden=not sys.stderr.isatty()
    ) as bar:
        yield from bar
