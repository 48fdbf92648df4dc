"""Files that can't be used: the error of the first one, or left out where the run says so. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from audiozen_core.errors import DataError

_Item = TypeVar("_Item")

_leave_out: ContextVar[Callable[[DataError], object] | None] = ContextVar("leave_out", default=None)


@contextmanager
def leaving_out(leave_out: Callable[[DataError], object]) -> Iterator[None]:
    """Lets data sets that are built within the block leave out what can't be used.

    Args:
        leave_out: is given each error, and raises one where it is too much.
    """
    token = _leave_out.set(leave_out)
    try:
        yield
    finally:
        _leave_out.reset(token)


def usable(items: Iterable[_Item], check: Callable[[_Item], object]) -> list[_Item]:
    """Those of a data set's files that pass a check, such as a look at their headers.

    Args:
        items: files, or whatever stands for them.
        check: raises a `DataError` for one that can't be used.

    Raises:
        DataError: the first that can't be used; unless `trainer.args.on_bad_data` is `skip`, which leaves it out.
    """
    leave_out = _leave_out.get()
    passed = []
    for item in items:
        try:
            check(item)
        except DataError as error:
            if leave_out is None:
                raise
            leave_out(error)
        else:
            passed.append(item)
    return passed
