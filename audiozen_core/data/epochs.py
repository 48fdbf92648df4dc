"""Tells the epoch to data sets and samplers that have a method `set_epoch`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import Dataset, Sampler

# Under these names torch's containers keep what they contain, of any class: `ConcatDataset`, `ChainDataset` and
# `StackDataset`; `Subset`; `BatchSampler`.
_CONTENTS = ("dataset", "sampler", "batch_sampler")
_LISTED_CONTENTS = "datasets"


def tell_epoch(part: object, epoch: int) -> None:
    """Calls `set_epoch(epoch)` of a data set or a sampler, or else of what it contains, at any depth.

    It contains the data sets and samplers among its attributes, and in lists, tuples and dicts there.
    An object that has `set_epoch` passes the epoch on to its own contents itself, as it sees fit.

    Example:
        >>> from torch.utils.data import ConcatDataset, Subset
        >>> class Numbers(list):
        ...     def set_epoch(self, epoch):
        ...         self.epoch = epoch
        >>> numbers = Numbers([1, 2, 3])
        >>> tell_epoch(ConcatDataset([Subset(numbers, [0, 2]), [4, 5]]), 7)
        >>> numbers.epoch
        7
    """
    for receiver in _receivers(part, set()):
        receiver.set_epoch(epoch)


def _receivers(part: Any, seen: set[int]) -> Iterator[Any]:
    if part is None or id(part) in seen:
        return
    seen.add(id(part))
    if callable(getattr(part, "set_epoch", None)):
        yield part
        return
    # The loader tells the data set itself; a second time, in the main process, it would draw other random numbers.
    kinds = (Sampler,) if isinstance(part, Sampler) else (Dataset, Sampler)
    # Only instance attributes: reading a property could compute something.
    for name, value in list(getattr(part, "__dict__", {}).items()):
        if name in _CONTENTS:
            yield from _receivers(value, seen)
            continue
        contents = list(value.values()) if isinstance(value, dict) else value
        several = isinstance(contents, list | tuple) and not isinstance(contents, kinds)
        for inner in contents if several else [contents]:
            # Another list, or an item of it, is the data itself.
            if isinstance(inner, kinds) or (several and name == _LISTED_CONTENTS):
                yield from _receivers(inner, seen)
