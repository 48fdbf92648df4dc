"""Checks the files of a data set while it is built. An unreadable file is an error, or is skipped.

This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from audiozen_core.errors import DataError

_Item = TypeVar("_Item")

# This is a context variable, so that data sets do not need a parameter for the callback.
_on_unreadable: ContextVar[Callable[[DataError], object] | None] = ContextVar("on_unreadable", default=None)


@contextmanager
def skip_unreadable_files(on_unreadable: Callable[[DataError], object]) -> Iterator[None]:
    """Makes `keep_readable` skip unreadable files within the block.

    Args:
        on_unreadable: called with the error of each skipped file. It should raise an error if there are too many.
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
        check: raises a `DataError` if a file can't be read. It can read only the header of the file, for instance.

    Raises:
        DataError: a file can't be read. With `trainer.args.on_bad_data = "skip"`, more than `max_bad_data` files can't
            be read, or none can be read.
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
