"""Calls `set_epoch` of the data sets, samplers, transforms and collate functions that have this method."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler

from audiozen_core.data.contents import contents

# The attribute under which torch's samplers keep the data set.
_SAMPLED = "data_source"
_OF_TORCH = (Dataset, Sampler)


def propagate_epoch(part: object, epoch: int, *, to_data: bool = True) -> None:
    """Calls `set_epoch(epoch)` of an object or, if it has no such method, of every object that it holds.

    The search covers attributes (also of classes) and `__slots__`, lists, tuples, sets, dicts, deques and mapping
    proxies, the arguments of `functools.partial`, closures, default arguments, and the children of modules, at any
    depth. It skips tensors, arrays, classes and global variables. In a container with more than 10,000 entries, it
    covers only data sets, samplers, modules and objects with `set_epoch`. All other entries are assumed to be data,
    such as the rows of a table.

    The search does not look inside an object that has `set_epoch`, because this object is responsible for the objects
    that it holds. Each object is called once. Every call of `propagate_epoch` searches again, so objects can be
    replaced between epochs.

    Args:
        part: a data set, a sampler, a collate function, or a list of these.
        epoch: the epoch.
        to_data: whether to call `set_epoch` of data sets too. Set it to False for a sampler, which can hold the data
            set that it samples from. `SeededDataset` already calls `set_epoch` of that data set, and a second call in
            the main process could draw other random numbers.

    Example:
        >>> from torch.utils.data import ConcatDataset, Subset
        >>> class Numbers(list):
        ...     def set_epoch(self, epoch):
        ...         self.epoch = epoch
        >>> numbers = Numbers([1, 2, 3])
        >>> propagate_epoch(ConcatDataset([Subset(numbers, [0, 2]), [4, 5]]), 7)
        >>> numbers.epoch
        7
    """
    # The search ends before the first call, because `set_epoch` can replace objects.
    for receiver in list(_receivers(part, to_data=to_data)):
        receiver.set_epoch(epoch)


def _receivers(part: Any, *, to_data: bool) -> Iterator[Any]:
    seen = {id(part)}
    # The queue keeps the objects alive, so that no two of them can have the same `id`.
    queue = deque([part])
    while queue:
        item = queue.popleft()
        if callable(_set_epoch(item)):
            yield item
            continue
        children = item.named_children() if isinstance(item, nn.Module) else ()
        for name, value in (*children, *contents(item)):
            is_data = isinstance(value, Dataset) or name == _SAMPLED
            if isinstance(value, Tensor) or id(value) in seen or (is_data and not to_data):
                continue
            seen.add(id(value))
            queue.append(value)


def _set_epoch(item: Any) -> Any:
    """Returns the method `set_epoch` of an object; None if it has none."""
    # `hasattr` is not enough: a mock or proxy has every attribute. The class or the object itself must define
    # `set_epoch`.
    defined = isinstance(item, _OF_TORCH) or "set_epoch" in getattr(item, "__dict__", ())
    defined = defined or _has_method(type(item))  # type: ignore[arg-type]  # mypy: a class has no hash
    return getattr(item, "set_epoch", None) if defined else None


@functools.lru_cache(maxsize=1024)
def _has_method(cls: type) -> bool:
    return any("set_epoch" in vars(base) for base in cls.__mro__)
