"""Makes sure that a worker can send a batch to the main process.

A worker pickles and sends each batch in a background thread. If that fails, the main process waits forever.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
from torch import Tensor

from audiozen_core.data.description import describe
from audiozen_core.data.tensors import map_tensors
from audiozen_core.errors import DataError, exception_text

_TEXT = frozenset((str,))
_PLAIN = frozenset((str, bytes, int, float, bool, type(None)))


def sendable(batch: Any) -> Any:
    """Detaches the tensors of a batch, and checks that the batch can be sent to another process.

    Raises:
        DataError: a value can't be sent. The error names its key and type.
    """
    batch = without_gradients(batch)
    if not is_plain(batch) and _refusal(batch) is not None:
        for place, value in _values(batch, ""):
            if error := _refusal(value):
                raise DataError(
                    f"`{place}` of the batch is {describe(value)}, which can't be sent from a worker: "
                    + exception_text(error),
                    remedy="return tensors, arrays, numbers, strings, or lists and dicts of these from the data set; "
                    "open files and create functions where they are used",
                ) from error
    return batch


def without_gradients(value: Any) -> Any:
    """Detaches the tensors of a sample or a batch, because another process can't compute their gradients."""
    return map_tensors(value, _detached)


def _detached(tensor: Tensor) -> Tensor:
    return tensor.detach() if tensor.requires_grad else tensor


def is_plain(value: Any) -> bool:
    """Returns whether a value has only types that can always be sent, and no gradients. Nothing is pickled."""
    kind = type(value)
    if kind is Tensor:
        return not value.requires_grad
    if kind is dict:
        return {*map(type, value)} <= _TEXT and all(map(is_plain, value.values()))
    if kind is list or kind is tuple:
        return all(map(is_plain, value))
    return kind in _PLAIN


def _refusal(value: Any) -> Exception | None:
    """Returns the error that sending a value would raise; None if it can be sent."""
    try:
        _Trial(io.BytesIO()).dump(value)
    except Exception as error:
        return error
    return None


class _Trial(ForkingPickler):
    """Pickles a batch as a worker does, but without the contents of tensors and arrays."""

    def reducer_override(self, value: Any) -> Any:
        """Replaces tensors and arrays that can always be sent by a small placeholder."""
        if isinstance(value, Tensor):
            if value.requires_grad and not value.is_leaf:
                raise TypeError("it contains a tensor that requires a gradient")
            return int, ()
        return (int, ()) if isinstance(value, np.ndarray) and not value.dtype.hasobject else NotImplemented


def _values(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yields the place and the value of everything in a batch, the innermost values first."""
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    elif is_dataclass(value) and not isinstance(value, type):
        items = [(field.name, getattr(value, field.name)) for field in fields(value)]
    else:
        items = []
    for key, item in items:
        yield from _values(item, f"{place}.{key}" if place else str(key))
    yield place or "the whole", value
