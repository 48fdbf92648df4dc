"""Applies a function to every tensor in a batch or in the inputs of a network."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, MutableMapping
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

_PLAIN = frozenset((bool, int, float, str))


def map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Applies a function to every tensor, at any depth of mappings, lists, tuples and dataclasses.

    Returns:
        A copy of the value with the new tensors, in containers of the same classes. The value itself is not changed. An
        immutable mapping becomes a dict. Objects of other types are returned without a copy.

    Example:
        >>> import torch
        >>> map_tensors({"x": [torch.ones(2)], "id": "a"}, torch.Tensor.neg)
        {'x': [tensor([-1., -1.])], 'id': 'a'}
    """
    if isinstance(value, Tensor):
        return function(value)
    # The most frequent types come first, because the check for `Mapping` takes longer than all of these checks.
    if type(value) is tuple:
        items = [map_tensors(entry, function) for entry in value]
        return value if all(map(operator.is_, items, value)) else tuple(items)
    if type(value) is list:
        return [map_tensors(entry, function) for entry in value]
    if value is None or type(value) in _PLAIN:
        return value
    if type(value) is dict or (isinstance(value, Mapping) and not isinstance(value, MutableMapping)):
        # Most batches are dicts of tensors, so a plain tensor is not passed through this function again.
        return {
            key: function(entry) if type(entry) is Tensor else map_tensors(entry, function)
            for key, entry in value.items()
        }
    if isinstance(value, MutableMapping):
        # A copy keeps the class and the attributes of the object. Entries are assigned one by one, because some classes
        # also store them as attributes.
        mapping = copy(value)
        for key, entry in value.items():
            mapping[key] = map_tensors(entry, function)
        return mapping
    if isinstance(value, list):
        entries = copy(value)
        entries[:] = [map_tensors(entry, function) for entry in value]
        return entries
    if isinstance(value, tuple):
        items = [map_tensors(entry, function) for entry in value]
        if all(map(operator.is_, items, value)):
            return value
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if is_dataclass(value) and not isinstance(value, type):
        record = copy(value)
        for field in fields(value):
            # `setattr` would fail on a frozen dataclass.
            object.__setattr__(record, field.name, map_tensors(getattr(value, field.name), function))
        return record
    return value
