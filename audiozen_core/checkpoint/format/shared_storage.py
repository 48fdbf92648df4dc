"""Tensors that share memory: found before they are stored, so that they share again after they are read.

Tied weights are one tensor under two names; a state may also hold a tensor beside a slice of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor is found again.

    Attributes:
        name: of the stored tensor.
        size: the tensor's own shape.
        stride: its strides in items, None for a contiguous one that fills the stored tensor.
        offset: in items, from the start of the stored tensor, for a view into a larger one; else None.
    """

    name: str
    size: tuple[int, ...]
    stride: tuple[int, ...] | None = None
    offset: int | None = None


class MemoryConflictError(ValueError):
    """Tensors share memory in a way that can't be told, such as with unequal dtypes; the text names them."""


def place(named: Sequence[tuple[str, Tensor]]) -> tuple[dict[str, Tensor], list[Place]]:
    """Decides what to store and where each tensor is found in it.

    Args:
        named: names, all different, and strided tensors.

    Returns:
        The tensors to store, by name: each piece of memory once. And the place of each of `named`, in their order.

    Raises:
        MemoryConflictError: tensors of unequal dtypes share memory.
    """
    stored: dict[str, Tensor] = {}
    places: dict[int, Place] = {}
    taken = {name for name, _ in named}
    for cluster in _clusters([tensor for _, tensor in named]):
        names = [named[index][0] for index in cluster]
        tensors = [named[index][1] for index in cluster]
        base_name, base = _base(names, tensors, taken)
        stored[base_name] = base
        for index, tensor in zip(cluster, tensors, strict=True):
            places[index] = _within(base_name, base, tensor)
    return stored, [places[index] for index in range(len(named))]


def restore(stored: Tensor, place: Place) -> Tensor:
    """The tensor at `place`; a view of `stored` where it was one.

    Raises:
        RuntimeError: the place lies outside `stored`.
    """
    if place.offset is not None and place.stride is not None:
        extent = 1 + sum((size - 1) * stride for size, stride in zip(place.size, place.stride, strict=True))
        if place.offset < 0 or min(place.stride, default=0) < 0 or place.offset + extent > stored.numel():
            raise RuntimeError("a view lies outside its tensor")
        return stored.as_strided(place.size, place.stride, place.offset)
    if place.stride is not None:
        return torch.empty_strided(place.size, place.stride, dtype=stored.dtype).copy_(stored)
    return stored


def _clusters(tensors: Sequence[Tensor]) -> list[list[int]]:
    """Indices of tensors, grouped by overlapping memory; each group in the order given."""
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
    """The tensor that holds the memory of all: one of them, or a flat one around them, by a name that none has."""
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
    if lowest.untyped_storage().nbytes() < (lowest.storage_offset() + items) * step:  # two storages of one memory
        raise MemoryConflictError(" and ".join(f"`{name}`" for name in names))
    name = f"{names[0]}~memory"
    while name in taken:
        name += "~"
    taken.add(name)
    return name, lowest.detach().as_strided((items,), (1,), lowest.storage_offset())


def _within(name: str, base: Tensor, tensor: Tensor) -> Place:
    size, stride = tuple(tensor.shape), tuple(tensor.stride())
    if not tensor.numel() or _geometry(tensor) == _geometry(base):
        return Place(name, size, stride if tensor.numel() and _is_permuted(tensor) else None)
    return Place(name, size, stride, (tensor.data_ptr() - base.data_ptr()) // base.element_size())


def _is_permuted(tensor: Tensor) -> bool:
    """Whether it is dense but not in the plain order of its dimensions, as in `channels_last`."""
    if tensor.is_contiguous():
        return False
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True
