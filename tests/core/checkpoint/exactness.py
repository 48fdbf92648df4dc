"""Compares nested states exactly: every bit and every type must be equal."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def difference(left: Any, right: Any, path: str = "") -> str | None:
    """Describes the first difference between two states; None if they are equal."""
    if type(left) is not type(right):
        return f"{path}: {type(left).__name__} is not {type(right).__name__}"
    if isinstance(left, torch.Tensor):
        return _tensor_difference(left, right, path)
    if isinstance(left, (np.ndarray, np.generic)):
        same = left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
        return None if same else f"{path}: {left!r} is not {right!r}"
    if isinstance(left, Mapping):
        if isinstance(left, OrderedDict) and vars(left) != vars(right):
            return f"{path}: attributes differ"
        return difference(list(left.items()), list(right.items()), f"{path}/")
    if isinstance(left, (list, tuple)):
        if len(left) != len(right):
            return f"{path}: {len(left)} members are not {len(right)}"
        pairs = enumerate(zip(left, right, strict=True))
        return next(filter(None, (difference(a, b, f"{path}[{i}]") for i, (a, b) in pairs)), None)
    if isinstance(left, float):
        return None if repr(left) == repr(right) else f"{path}: {left!r} is not {right!r}"
    return None if left == right else f"{path}: {left!r} is not {right!r}"


def _tensor_difference(left: torch.Tensor, right: torch.Tensor, path: str) -> str | None:
    if left.dtype != right.dtype or left.shape != right.shape:
        return f"{path}: {left.dtype} {list(left.shape)} is not {right.dtype} {list(right.shape)}"
    if left.requires_grad != right.requires_grad:
        return f"{path}: requires_grad differs"
    same = _bytes_of(left) == _bytes_of(right)
    return None if same else f"{path}: the values differ"


def _bytes_of(tensor: torch.Tensor) -> bytes:
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return plain.as_strided(plain.shape, (1,)).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
