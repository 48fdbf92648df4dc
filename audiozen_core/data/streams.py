"""Errors for settings that a stream (an iterable data set) does not support.

`audiozen check` finds these errors from the classes of the data sets, and the loader from the objects. This module does
not import torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from audiozen_core.diagnostics.config_codes import UNFIT
from audiozen_core.errors import BuildError, DataError

STREAM = "torch.utils.data.IterableDataset"
"""The dotted path of the base class of all streams."""

CHAIN = "torch.utils.data.ChainDataset"
"""The dotted path of the class that chains several streams."""

SHARDS_ITSELF = "shards_itself"
"""The attribute of a stream that says whether each worker yields only its own share of the samples."""


def stream_errors(
    name: str, *, shards_itself: bool, num_workers: int, shuffle: bool, sampler: str = ""
) -> Iterator[tuple[str, DataError]]:
    """Yields an error for each setting in the `dataloader` table that a stream does not support.

    Args:
        name: the name of the data set for messages.
        shards_itself: whether all parts of the stream yield, in each worker, only the share of that worker.
        num_workers: the number of workers.
        shuffle: whether `shuffle = true` is set.
        sampler: the key that sets a sampler, `sampler` or `batch_sampler`; "" if neither is set.

    Yields:
        The key of the setting, and the error.
    """
    if key := sampler or "shuffle" * shuffle:
        yield (
            key,
            DataError(
                f"{name} is a stream (an iterable data set), which decides the order of its samples, so "
                f"{'its sampler' if sampler else '`shuffle = true`'} would have no effect",
                remedy=f"leave {'the sampler' if sampler else '`shuffle`'} out, and choose the samples in the stream; "
                "if it has `set_epoch`, this method is called with the epoch",
            ),
        )
    if num_workers > 1 and not shards_itself:
        yield (
            "num_workers",
            DataError(
                f"{name} is a stream (an iterable data set), and each of its {num_workers} workers would yield all of "
                "its samples",
                remedy="set `num_workers = 1`; or yield only the worker's own share, chosen with "
                f"`torch.utils.data.get_worker_info()`, and set `{SHARDS_ITSELF} = True` in the class",
            ),
        )


def mixture_error(streams: Mapping[str, bool]) -> BuildError | None:
    """Returns the error for data sets that can't be joined, because some are streams and others are not.

    Args:
        streams: for the header of each data set, whether it is a stream.

    Returns:
        The error; None if the data sets can be joined.
    """
    stream = next((header for header, is_stream in streams.items() if is_stream), None)
    other = next((header for header, is_stream in streams.items() if not is_stream), None)
    if stream is None or other is None:
        return None
    return BuildError(
        f"{stream} is a stream (an iterable data set) and {other} is not, so they can't be joined",
        code=UNFIT,
        remedy="make both of them streams, or neither, because only a stream decides the order of its samples",
    )


def collate_error(functions: Mapping[str, object], place: str) -> tuple[str, BuildError] | None:
    """Returns the error for data sets that share batches, but have different collate functions.

    Args:
        functions: for the header of each data set, its collate function or the collate function of its class; None if
            there is neither.
        place: the header of the table where one `collate_fn` for all data sets can be set.

    Returns:
        The header of the first data set that differs, and the error; None if all collate functions are the same.
    """
    # A bound method is compared by its function, so that all objects of a class have the same collate function.
    (first, wanted), *others = [(header, getattr(item, "__func__", item)) for header, item in functions.items()]
    different = next((header for header, function in others if function is not wanted), None)
    if different is None:
        return None
    return different, BuildError(
        f"{first} and {different} have different collate functions, but share their batches",
        code=UNFIT,
        remedy=f"set one `collate_fn` for all data sets in {place}",
    )
