"""Checks a data set's files while it is built. An unreadable file is an error or is skipped.

This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from audiozen_core.errors import DataError

_Item = TypeVar("_Item")

# A context variable, so that data sets do not need a parameter for this callback.
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
    """Checks each file of a data set and returns the readable ones.

    Args:
        items: the files, or objects that represent them, such as a pair of files.
        check: reads the header of a file, for instance, and raises a `DataError` if the file can't be read.

    Raises:
        DataError: a file can't be read. With `trainer.args.on_bad_data = "skip"`, unreadable files are skipped, and it
            is an error if there are more than `max_bad_data` of them, or if no readable file is left.
    """
    on_unreadable = _on_unreadable.get()
    readable, errors = [], []
    for item in items:
        try:
            check(item)
        except DataError as error:
            if on_unreadable is None:
                raise
            on_unreadable(error)
            errors.append(error)
        else:
            readable.append(item)
    if errors and not readable:
        raise DataError(
            f"all {len(errors)} files of the data set are unreadable; the first error: {errors[0].message}",
            remedy=errors[0].remedy,
            notes=errors[0].notes,
        )
    return readable
