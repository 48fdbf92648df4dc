"""What a stream (an iterable data set) can't do. The check finds it in classes, and the loader in objects.

Torch is not imported here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from audiozen_core.diagnostics.config_codes import UNFIT
from audiozen_core.errors import BuildError, DataError

STREAM = "torch.utils.data.IterableDataset"
"""The dotted path of the class that all streams are derived from."""

CHAIN = "torch.utils.data.ChainDataset"
"""The dotted path of the stream that reads several streams one after another."""

SHARDS_ITSELF = "shards_itself"
"""The attribute of a stream that gives each worker its own share."""


def stream_errors(
    name: str, *, shards_itself: bool, num_workers: int, shuffle: bool, sampler: str = ""
) -> Iterator[tuple[str, DataError]]:
    """Yields what a data loader can't do with a stream: the key in its table `dataloader`, and the error.

    Args:
        name: the data set in messages.
        shards_itself: whether all parts of the stream give each worker its own share.
        num_workers: the number of workers.
        shuffle: whether the file says `shuffle = true`.
        sampler: the key of the sampler, `sampler` or `batch_sampler`; "" if there is none.
    """
    if key := sampler or "shuffle" * shuffle:
        yield (
            key,
            DataError(
                f"{name} is a stream (an iterable data set), which has an order of its own, so "
                f"{'its sampler' if sampler else '`shuffle = true`'} would have no effect",
                remedy=f"leave {'the sampler' if sampler else '`shuffle`'} out, and let the stream choose its samples "
                "itself; its `set_epoch` is told the epoch",
            ),
        )
    if num_workers > 1 and not shards_itself:
        yield (
            "num_workers",
            DataError(
                f"{name} is a stream (an iterable data set), and each of its {num_workers} workers would give all of "
                "its samples",
                remedy="set `num_workers = 1`; or let each worker give its own share, chosen by "
                f"`torch.utils.data.get_worker_info()`, and say so with `{SHARDS_ITSELF} = True` in the class",
            ),
        )


def mixture_error(streams: Mapping[str, bool]) -> BuildError | None:
    """Returns the error for data sets that can't be joined, because some are streams and some are not.

    Args:
        streams: whether a data set is a stream, by its header.
    """
    stream = next((header for header, is_stream in streams.items() if is_stream), None)
    other = next((header for header, is_stream in streams.items() if not is_stream), None)
    if stream is None or other is None:
        return None
    return BuildError(
        f"{stream} is a stream (an iterable data set) and {other} is not, so they can't be joined",
        code=UNFIT,
        remedy="make both of them streams, or neither: only a stream chooses the order of its samples itself",
    )


def collate_error(functions: Mapping[str, object], place: str) -> tuple[str, BuildError] | None:
    """Returns the error for data sets that share their batches, but not their collate function.

    Args:
        functions: the collate function of each data set, or of its class, by its header; None if it has none.
        place: the header of the table in which one for all can be named.

    Returns:
        The header of the data set that differs from the first one, and the error; None if they agree.
    """
    # The methods of a class, and of all its objects, are the same function.
    (first, wanted), *others = [(header, getattr(found, "__func__", found)) for header, found in functions.items()]
    different = next((header for header, found in others if found is not wanted), None)
    if different is None:
        return None
    return different, BuildError(
        f"{first} and {different} have different collate functions, but share their batches",
        code=UNFIT,
        remedy=f"name one `collate_fn` for all in {place}",
    )
