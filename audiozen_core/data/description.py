"""Describes values for messages: the types, dtypes and shapes in a batch, and the IDs of its samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from audiozen_core.diagnostics.listed import listed


def describe(value: Any) -> str:
    """Describes a value by its type, dtype and shape.

    Example:
        >>> import torch
        >>> describe({"noisy": torch.ones(2, 3), "id": "a"})
        'a dict of noisy: float32 [2, 3], id: str'
        >>> describe((np.zeros(4, dtype=np.int16), None))
        'a tuple of (a NumPy array, int16 [4], None)'
    """
    if value is None:
        return "None"
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"a NumPy array, {value.dtype} {list(value.shape)}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} of {describe_entries(value)}" if value else "an empty dict"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of ({listed(map(describe, value))})"
    return type(value).__name__


def describe_entries(mapping: Mapping[Any, Any]) -> str:
    """Describes each value of a mapping, for example as `noisy: float32 [4000], id: str`."""
    return listed(f"{key}: {describe(value)}" for key, value in mapping.items())


def sample_notes(batch: Any) -> list[str]:
    """Returns a note with the IDs of the samples in a batch; an empty list if the batch has no IDs."""
    ids = batch.get("id") if isinstance(batch, Mapping) else None
    if not isinstance(ids, Sequence) or isinstance(ids, str) or not ids:
        return []
    return [f"samples: {listed(map(str, ids))}"]
