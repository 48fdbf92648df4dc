"""Shows how far a computation is, in one line with the time that is left."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

import click

Item = TypeVar("Item")


def with_progress(items: Iterable[Item], *, total: int, label: str, shown: bool) -> Iterator[Item]:
    """Yields the items, and shows a bar on standard error if that is a terminal.

    Args:
        items: the items, which come one after another.
        total: how many there will be.
        label: what is done.
        shown: whether to show the bar.
    """
    if not shown or not total:
        yield from items
        return
    with click.progressbar(
        items, length=total, label=label, file=sys.stderr, show_pos=True, hidden=not sys.stderr.isatty()
    ) as bar:
        yield from bar
