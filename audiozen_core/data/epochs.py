"""Tells the epoch to data sets and samplers that have a method `set_epoch`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# The attributes in which torch's containers, and most wrappers, keep what they contain: `ConcatDataset`, `ChainDataset`
# and `StackDataset`; `Subset`; `BatchSampler`.
_CONTENTS = ("dataset", "datasets", "sampler", "batch_sampler")


def tell_epoch(part: object, epoch: int) -> None:
    """Calls `set_epoch(epoch)` of a data set or a sampler, or else of what it contains, at any depth.

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
    # Only instance attributes: reading a property could compute something.
    attributes = getattr(part, "__dict__", {})
    for name in _CONTENTS:
        contents = attributes.get(name)
        if isinstance(contents, Mapping):
            contents = list(contents.values())
        # A list under another name is the data itself.
        for inner in contents if name == "datasets" and isinstance(contents, list | tuple) else [contents]:
            yield from _receivers(inner, seen)
