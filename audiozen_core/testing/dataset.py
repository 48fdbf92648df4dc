"""Checks data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from audiozen_core.data.loader import BatchLoader


def check_dataset(build: Callable[[], Dataset[Any]], *, batch_size: int = 2, num_workers: int = 2) -> None:
    """Checks that a data set gives the same batches with and without workers, in two epochs.

    Args:
        build: makes the data set.
        batch_size: samples in a batch.
        num_workers: the number of workers to compare with none.

    Raises:
        AssertionError: it does not, or repeating an epoch gives other batches.
    """
    alone = _epochs(build, batch_size, 0)
    assert alone[0], "it yields no batches"
    _compare(alone, _epochs(build, batch_size, 0), "when the epoch is repeated")
    _compare(alone, _epochs(build, batch_size, num_workers), f"with {num_workers} workers")


def _epochs(build: Callable[[], Dataset[Any]], batch_size: int, num_workers: int) -> list[list[Any]]:
    # Persistent workers would outlive the check.
    options: dict[str, Any] = {"persistent_workers": False} if num_workers else {}
    loader = BatchLoader(build(), batch_size=batch_size, shuffle=True, num_workers=num_workers, seed=3, **options)
    # Random numbers that were drawn before must not make a difference.
    torch.manual_seed(num_workers)
    return [list(loader.epoch(epoch)) for epoch in (1, 2)]


def _compare(first: list[list[Any]], second: list[list[Any]], when: str) -> None:
    for epoch, (batches, others) in enumerate(zip(first, second, strict=True), start=1):
        assert len(batches) == len(others), f"epoch {epoch} has {len(others)} batches instead of {len(batches)} {when}"
        for place, (batch, other) in enumerate(zip(batches, others, strict=True)):
            where = f"batch {place} of epoch {epoch}"
            assert _same(batch, other), f"{where} differs {when}"


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other)
