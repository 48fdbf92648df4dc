"""Tells the epoch to data sets, samplers, transforms and collate functions that have a method `set_epoch`."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler

from audiozen_core.data.contents import contents

# Torch's samplers keep the data set under this name.
_SAMPLED = "data_source"
_OF_TORCH = (Dataset, Sampler)


def tell_epoch(part: object, epoch: int, *, to_data: bool = True) -> None:
    """Calls `set_epoch(epoch)` of an object. If it has no such method, calls that of every object in it, each once.

    The objects are looked for in attributes (also of classes) and `__slots__`, in lists, tuples, sets, dicts, deques
    and mapping proxies, in the arguments of `functools.partial`, in closures, in default arguments, and in the children
    of modules, at any depth. The search does not go into tensors, arrays, classes and global variables. Of a
    container with more than 10,000 entries, only data sets, samplers and objects with `set_epoch` are looked at,
    because the others are data, such as the rows of a table. The search stops at an object
    that has `set_epoch`: this object decides whether the objects in it are told. Each call searches again, so an object
    may be replaced between epochs.

    Args:
        part: a data set, a sampler, a collate function, or a list of these.
        epoch: the epoch.
        to_data: whether data sets are told. False for a sampler, which may hold the data set that it samples from:
            `SeededDataset` tells that data set, and a second call in the main process could draw other random numbers.

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
    # All objects are found before the first call, because `set_epoch` may replace some of them.
    for receiver in list(_receivers(part, to_data=to_data)):
        receiver.set_epoch(epoch)


def _receivers(part: Any, *, to_data: bool) -> Iterator[Any]:
    seen = {id(part)}
    # The objects that are still to be looked at stay alive here, so that no two have the same identity.
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
    """Returns the method `set_epoch` of an object."""
    # A proxy answers to every name. It has the method only if its class or the object itself defines it.
    known = isinstance(item, _OF_TORCH) or _has_method(type(item))  # type: ignore[arg-type]  # mypy: a class has no hash
    return getattr(item, "set_epoch", None) if known or "set_epoch" in getattr(item, "__dict__", ()) else None


@functools.lru_cache(maxsize=1024)
def _has_method(cls: type) -> bool:
    return any("set_epoch" in vars(base) for base in cls.__mro__)
