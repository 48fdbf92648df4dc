"""Checks the files of a data set while it is built: an unreadable one is an error, or is skipped. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from audiozen_core.errors import DataError

_Item = TypeVar("_Item")

# A context variable, so that each data set needs no argument for it.
_on_unreadable: ContextVar[Callable[[DataError], object] | None] = ContextVar("on_unreadable", default=None)


@contextmanager
def skip_unreadable_files(on_unreadable: Callable[[DataError], object]) -> Iterator[None]:
    """Makes `keep_readable` skip unreadable files within the block.

    `on_unreadable` is called with the error of each skipped file, and raises an error if there are too many.
    """
    token = _on_unreadable.set(on_unreadable)
    try:
        yield
    finally:
        _on_unreadable.reset(token)


def keep_readable(items: Iterable[_Item], check: Callable[[_Item], object]) -> list[_Item]:
    """Checks each file of a data set and returns those that pass.

    Args:
        items: the files, or any objects that stand for them.
        check: raises a `DataError` for a file that can't be read, for instance when it looks at the header.

    Raises:
        DataError: a file can't be read. With `trainer.args.on_bad_data = "skip"` the file is skipped instead, unless
            that makes more than `max_bad_data`.
    """
    on_unreadable = _on_unreadable.get()
    readable = []
    for item in items:
        try:
            check(item)
        except DataError as error:
            if on_unreadable is None:
                raise
            on_unreadable(error)
        else:
            readable.append(item)
    return readable
