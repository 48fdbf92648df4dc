"""Tensors that share memory are stored once, and share memory again after loading.

Tied weights are one tensor under two names. A state may also hold a tensor next to a slice of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class StorageView:
    """How a tensor is rebuilt from a stored one.

    Attributes:
        name: the name of the stored tensor.
        size: the shape of the tensor.
        stride: its strides in items; None if it is contiguous and is all of the stored tensor.
        offset: for a view into a larger tensor, where it starts, in items; otherwise None.
    """

    name: str
    size: tuple[int, ...]
    stride: tuple[int, ...] | None = None
    offset: int | None = None


class MemoryConflictError(ValueError):
    """Tensors share memory in a way that can't be stored, such as with different dtypes; the text names them."""


def deduplicate(named: Sequence[tuple[str, Tensor]]) -> tuple[dict[str, Tensor], list[StorageView]]:
    """Decides which tensors to store, and how each tensor is rebuilt from them.

    Args:
        named: pairs of a name, unique among them, and a strided tensor.

    Returns:
        The tensors to store by name, which cover each piece of memory once, and a view for each of `named`, in order.

    Raises:
        MemoryConflictError: tensors with different dtypes share memory.
    """
    stored: dict[str, Tensor] = {}
    views: dict[int, StorageView] = {}
    taken = {name for name, _ in named}
    for cluster in _clusters([tensor for _, tensor in named]):
        names = [named[index][0] for index in cluster]
        tensors = [named[index][1] for index in cluster]
        base_name, base = _base(names, tensors, taken)
        stored[base_name] = base
        for index, tensor in zip(cluster, tensors, strict=True):
            views[index] = _view_of(base_name, base, tensor)
    return stored, [views[index] for index in range(len(named))]


def rebuild(stored: Tensor, view: StorageView) -> Tensor:
    """The tensor that `view` describes; it shares memory with `stored` if it did when it was saved.

    Raises:
        RuntimeError: the view reaches outside `stored`.
    """
    if view.offset is not None and view.stride is not None:
        extent = 1 + sum((size - 1) * stride for size, stride in zip(view.size, view.stride, strict=True))
        if view.offset < 0 or min(view.stride, default=0) < 0 or view.offset + extent > stored.numel():
            raise RuntimeError("a view reaches outside its tensor")
        return stored.as_strided(view.size, view.stride, view.offset)
    if view.stride is not None:
        return torch.empty_strided(view.size, view.stride, dtype=stored.dtype).copy_(stored)
    return stored


def _clusters(tensors: Sequence[Tensor]) -> list[list[int]]:
    """The indices of the tensors, grouped by overlapping memory; each group in ascending order."""
    clusters: list[list[int]] = []
    extents = []
    for index, tensor in enumerate(tensors):
        if tensor.numel():
            extents.append((str(tensor.device), *_extent(tensor), index))
        else:
            clusters.append([index])
    end_of_last: tuple[str, int] = ("", 0)
    for device, start, end, index in sorted(extents):
        if end_of_last[0] == device and start < end_of_last[1]:
            clusters[-1].append(index)
            end_of_last = (device, max(end, end_of_last[1]))
        else:
            clusters.append([index])
            end_of_last = (device, end)
    return sorted(sorted(cluster) for cluster in clusters)


def _extent(tensor: Tensor) -> tuple[int, int]:
    start = tensor.data_ptr()
    items = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + items * tensor.element_size()


def _geometry(tensor: Tensor) -> tuple[object, ...]:
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _base(names: Sequence[str], tensors: Sequence[Tensor], taken: set[str]) -> tuple[str, Tensor]:
    """A tensor that covers the memory of all, and its name: one of them, or a flat one around them with a new name."""
    first = tensors[0]
    if all(_geometry(tensor) == _geometry(first) for tensor in tensors):
        return names[0], first
    step = first.element_size()
    if any(tensor.dtype != first.dtype or (tensor.data_ptr() - first.data_ptr()) % step for tensor in tensors):
        raise MemoryConflictError(" and ".join(f"`{name}`" for name in names))
    start = min(_extent(tensor)[0] for tensor in tensors)
    end = max(_extent(tensor)[1] for tensor in tensors)
    for name, tensor in zip(names, tensors, strict=True):
        if _extent(tensor) == (start, end) and tensor.is_contiguous():
            return name, tensor
    lowest = min(tensors, key=lambda tensor: tensor.data_ptr())
    items = (end - start) // step
    if lowest.untyped_storage().nbytes() < (lowest.storage_offset() + items) * step:  # Two storages in one memory.
        raise MemoryConflictError(" and ".join(f"`{name}`" for name in names))
    name = f"{names[0]}~memory"
    while name in taken:
        name += "~"
    taken.add(name)
    return name, lowest.detach().as_strided((items,), (1,), lowest.storage_offset())


def _view_of(name: str, base: Tensor, tensor: Tensor) -> StorageView:
    size, stride = tuple(tensor.shape), tuple(tensor.stride())
    if not tensor.numel() or _geometry(tensor) == _geometry(base):
        return StorageView(name, size, stride if tensor.numel() and _is_permuted(tensor) else None)
    return StorageView(name, size, stride, (tensor.data_ptr() - base.data_ptr()) // base.element_size())


def _is_permuted(tensor: Tensor) -> bool:
    """Whether a tensor is dense, but with its dimensions in another order, as in `channels_last`."""
    if tensor.is_contiguous():
        return False
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True
