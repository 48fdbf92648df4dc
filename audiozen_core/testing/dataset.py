"""Checks data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from audiozen_core.data.loader import BatchLoader
from audiozen_core.data.seeding import seed_from


def check_dataset(build: Callable[[], Dataset[Any]], *, batch_size: int = 2, num_workers: int = 2) -> None:
    """Checks that a data set gives the same batches with and without workers, in two epochs.

    Args:
        build: a function that builds the data set.
        batch_size: the number of samples in a batch.
        num_workers: the number of workers whose batches are compared with the batches of the main process; always 1 for
            a stream.

    Raises:
        DataError: the data set yields no batches.
        AssertionError: the batches differ with workers or in a repeated epoch.
    """
    first = _epochs(build, batch_size, num_workers=0, global_seed=0)
    repeated = _epochs(build, batch_size, num_workers=0, global_seed=1)
    _compare(first, repeated, "when the epoch is repeated")
    if isinstance(build(), IterableDataset):
        # Each worker of a stream makes batches from its own share, so only a single worker makes the same batches.
        num_workers = 1
    with_workers = _epochs(build, batch_size, num_workers=num_workers, global_seed=2)
    _compare(first, with_workers, f"with {num_workers} workers")


def _epochs(
    build: Callable[[], Dataset[Any]], batch_size: int, *, num_workers: int, global_seed: int
) -> list[list[Any]]:
    # Persistent workers would outlive the check.
    options: dict[str, Any] = {"persistent_workers": False} if num_workers else {}
    dataset = build()
    shuffle = not isinstance(dataset, IterableDataset)
    loader = BatchLoader(dataset, batch_size=batch_size, shuffle=shuffle, num_workers=num_workers, seed=3, **options)
    # The loader always gets the same seed, but the global generators get different seeds: in a run, their states depend
    # on earlier random numbers, and the batches must not depend on these states.
    seed_from(global_seed)
    return [list(loader.epoch(epoch)) for epoch in (1, 2)]


def _compare(first: list[list[Any]], second: list[list[Any]], when: str) -> None:
    for epoch, (batches, others) in enumerate(zip(first, second, strict=True), start=1):
        assert len(batches) == len(others), f"epoch {epoch} has {len(others)} batches instead of {len(batches)} {when}"
        for index, (batch, other) in enumerate(zip(batches, others, strict=True)):
            assert _same(batch, other), f"batch {index} of epoch {epoch} differs {when}"


def _same(first: Any, second: Any) -> bool:
    if type(first) is not type(second):
        return False
    if isinstance(first, Tensor | np.ndarray):
        return first.dtype == second.dtype and first.shape == second.shape and bool(_equal(first, second).all())
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(_same(*pair) for pair in zip(first, second, strict=True))
    return bool(_equal(first, second))


def _equal(first: Any, second: Any) -> Any:
    """Compares two values, or two arrays element by element; NaN equals NaN, although Python says otherwise."""
    both_nan = (first != first) & (second != second)  # noqa: PLR0124 - only NaN differs from itself
    return (first == second) | both_nan
