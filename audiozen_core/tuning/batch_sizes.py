"""Finds the largest batch size that fits into memory, and the fastest batch size. This module does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from audiozen_core.errors import RunError

# A larger batch size is recommended only if training is faster by at least this factor, because it also means fewer
# steps per epoch.
GAIN = 1.05


@dataclass(frozen=True, slots=True)
class BatchSizeResult:
    """The result of training for a few steps with one batch size.

    Attributes:
        batch_size: the number of samples in a batch.
        fits: whether training had enough memory and ended without an error.
        samples_per_second: the number of training samples processed per second; 0 if the batch size does not fit.
        peak_memory: the peak memory in bytes; None if unknown. On a GPU, the memory of all tensors; otherwise, the
            memory of the process.
        device: the type of the device, such as `cuda`.
        data_size: the number of samples in the data set; None for a stream that did not end within the first batch.
        reason: why the batch size does not fit.
    """

    batch_size: int
    fits: bool
    samples_per_second: float = 0.0
    peak_memory: int | None = None
    device: str = ""
    data_size: int | None = None
    reason: str = ""


def search_sizes(
    measure: Callable[[int], BatchSizeResult], *, first: int = 1, most: int | None = None
) -> list[BatchSizeResult]:
    """Measures growing batch sizes, up to the size of the data set.

    The search doubles the size until a size does not fit. It then bisects the interval between the largest size that
    fits and the smallest size that does not fit, until the interval is at most an eighth of the size that fits. On a
    CPU, where memory is seldom the limit, the search also ends if two sizes in a row are not faster than the best size
    before them.

    Args:
        measure: measures one size.
        first: the size to start with.
        most: the largest size to measure; None if only the size of the data set limits it.

    Returns:
        The measurements in the order in which they were made. At least one size fits.

    Raises:
        RunError: no measured size fits, `first` is less than 1, or `first` exceeds `most` or the size of the data set.
    """
    if first < 1 or (most is not None and most < first):
        raise RunError(
            f"{first} is not a batch size" if first < 1 else f"--max is {most}, less than --min, which is {first}",
            remedy="set --min to at least 1, and --max to at least --min",
        )
    measured = [measure(first)]
    while measured[-1].fits:
        newest = measured[-1]
        limits = [limit for limit in (most, newest.data_size) if limit is not None]
        if first > min(limits, default=first):
            raise RunError(
                f"--min is {first}, but the training data has only {newest.data_size} samples", remedy="lower --min"
            )
        if newest.batch_size >= min(limits, default=newest.batch_size + 1):
            break
        if newest.device == "cpu" and _gains_nothing(measured):
            break
        measured.append(measure(min([newest.batch_size * 2, *limits])))
    if not measured[-1].fits:
        high = measured[-1].batch_size
        low = measured[-2].batch_size if len(measured) > 1 else 0
        while high - low > max(1, low // 8):
            middle = measure((low + high) // 2)
            measured.append(middle)
            low, high = (middle.batch_size, high) if middle.fits else (low, middle.batch_size)
    if not any(result.fits for result in measured):
        smallest = min(measured, key=lambda result: result.batch_size)
        raise RunError(
            f"not even a batch size of {smallest.batch_size} fits: {smallest.reason}",
            remedy="use shorter clips, a smaller network, `use_amp`, or `gradient_checkpointing` in [model]; "
            "or allow more memory with --memory",
        )
    return measured


def largest(measured: Sequence[BatchSizeResult]) -> BatchSizeResult:
    """Returns the largest size that fits."""
    return max((result for result in measured if result.fits), key=lambda result: result.batch_size)


def recommended(measured: Sequence[BatchSizeResult]) -> BatchSizeResult:
    """Returns the smallest size that is nearly as fast as the fastest size.

    A larger size would save hardly any time, but would mean fewer steps per epoch.
    """
    fitting = [result for result in measured if result.fits]
    fastest = max(result.samples_per_second for result in fitting)
    near = [result for result in fitting if result.samples_per_second * GAIN >= fastest]
    return min(near, key=lambda result: result.batch_size)


def _gains_nothing(measured: Sequence[BatchSizeResult]) -> bool:
    """Returns whether neither of the last two sizes is faster than the best size before them."""
    speeds = [result.samples_per_second for result in measured]
    return len(speeds) > 2 and max(speeds[-2:]) < GAIN * max(speeds[:-2])
