"""Takes a padded batch apart, into one batch for each file."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from audiozen_core.data.description import describe, describe_entries
from audiozen_core.errors import DataError


def each_file(batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields a batch of one file for each file of a batch, without the padding.

    Args:
        batch: tensors, arrays and lists with an entry for each file, among them `length`, the number of samples of each
            file: a tensor, an array or a list of whole numbers. All tensors and arrays whose last axis is as long as
            that of `noisy` (without `noisy`, as the longest file) are cut to the file's length. Without `length`
            these are not cut. A further signal, such as `enrolment`, that has lengths of its own, as
            `enrolment_length`, is cut to those. A dict, and a list that torch's collate function has made of lists,
            are taken apart within: such a list has tensors whose first axis is that of the files. Other values, such as
            lists of another length, belong to every file, and stay as they are.

    Yields:
        Dicts with the same keys: tensors and arrays [1, ...] and lists of one entry.

    Raises:
        DataError: `length`, or the length of a further signal, does not have one number of samples for each file, or
            no entry has so many samples; or a list with as many entries as there are files can be read in two ways.

    Example:
        >>> import torch
        >>> batch = {"id": ["a", "b"], "noisy": torch.ones(2, 3), "length": torch.tensor([3, 2]), "sr": 16000}
        >>> [(file["id"], list(file["noisy"].shape), file["sr"]) for file in each_file(batch)]
        [(['a'], [1, 3], 16000), (['b'], [1, 2], 16000)]
    """
    lengths = _lengths(batch, "length")
    count = len(batch["noisy"]) if "noisy" in batch or lengths is None else len(lengths)
    width = _padded_width(batch, lengths) if lengths else 0
    own = {key: _own_lengths(batch, key, count) for key, value in batch.items() if _is_signal(value, count)}
    for key, value in batch.items():
        _check_lists(value, key, count)
    for index in range(count):
        cut = (width, lengths[index]) if lengths else None
        file: dict[str, Any] = {}
        for key, value in batch.items():
            if cuts := own.get(key):
                file[key] = _copy(value[index : index + 1][..., : cuts[index]], value)
            else:
                file[key] = _part(value, index, count, cut)
        yield file


def _part(value: Any, index: int, count: int, cut: tuple[int, int] | None) -> Any:
    """Returns the part of a value for one file. `cut` is the width of padded signals, and the length of the file."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim and len(value) == count:
        part = value[index : index + 1]
        return _copy(part[..., : cut[1]] if cut and value.ndim > 1 and value.shape[-1] == cut[0] else part, value)
    if isinstance(value, Mapping):
        return {key: _part(entry, index, count, cut) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        if value and all(_is_collated(entry, count) for entry in value):
            parts = [_part(entry, index, count, cut) for entry in value]
            return type(value)(*parts) if hasattr(value, "_fields") else parts
        if len(value) == count:
            return [value[index]]
    return value


def _copy(part: Any, whole: Any) -> Any:
    # A copy has the memory layout of a batch of this file alone. Some kernels round differently with another alignment.
    # The file of a batch of one has that layout, and may be long.
    if part.shape == whole.shape:
        return part
    return part.clone() if isinstance(part, Tensor) else part.copy()


def _is_collated(value: Any, count: int) -> bool:
    """Returns whether a value within a list has a part for each file, like those of torch's collate function."""
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim > 0 and len(value) == count
    if isinstance(value, Mapping):
        return bool(value) and all(_is_collated(entry, count) for entry in value.values())
    if not isinstance(value, list | tuple):
        return False
    if any(isinstance(entry, Tensor | np.ndarray | Mapping | list | tuple) for entry in value):
        return all(_is_collated(entry, count) for entry in value)
    return len(value) == count


def _has_only_arrays(value: Any) -> bool:
    if isinstance(value, Mapping | list | tuple):
        return all(map(_has_only_arrays, value.values() if isinstance(value, Mapping) else value))
    return isinstance(value, Tensor | np.ndarray)


def _check_lists(value: Any, name: str, count: int) -> None:
    """Raises an error for a list that can be read in two ways: one entry for each file, or each entry for all files."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            _check_lists(entry, f"{name}.{key}", count)
    if not isinstance(value, list | tuple) or hasattr(value, "_fields") or len(value) != count or count == 1:
        return
    # If each tensor were from one file, they would hardly all have equal shapes, and a first axis of this very size.
    if _has_only_arrays(value) and len(set(map(describe, value))) == 1:
        return
    if all(_is_collated(entry, count) for entry in value):
        raise DataError(
            f"`{name}` of a batch of {count} files is {describe(value)}: it is not clear whether each "
            "entry belongs to one file, or has a part for each file",
            remedy=f"return a dict instead of a list as `{name}` of a sample, or stack its tensors",
        )


def _is_signal(value: Any, count: int) -> bool:
    return isinstance(value, Tensor | np.ndarray) and value.ndim > 1 and len(value) == count


def _signals(value: Any) -> Iterator[Any]:
    """Yields the tensors and arrays with several axes, at any depth."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim > 1:
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _signals(entry)


def _own_lengths(batch: Mapping[str, Any], key: str, count: int) -> list[int] | None:
    """Returns the lengths that only this signal has; None for the signals that `length` is about."""
    name = f"{key}_length"
    if key in ("noisy", "clean") or (lengths := _lengths(batch, name, lowest=0, count=count)) is None:
        return None
    if max(lengths) > batch[key].shape[-1]:
        raise DataError(
            f"`{name}` of the batch says that the longest has {max(lengths)} samples, but `{key}` is "
            f"{describe(batch[key])}",
            remedy=f"give the number of samples of each `{key}` before it was padded, or give `{name}` another name",
        )
    return lengths


def _lengths(batch: Mapping[str, Any], name: str, *, lowest: int = 1, count: int | None = None) -> list[int] | None:
    """Returns the number of samples of each file; None if the batch does not have them under this name."""
    given = batch.get(name)
    if given is None:
        return None
    values = given.tolist() if isinstance(given, Tensor | np.ndarray) else given
    count = len(batch["noisy"]) if "noisy" in batch else count
    try:
        if not isinstance(values, Sequence):
            raise TypeError
        lengths = [operator.index(value) for value in values]
    except TypeError:
        lengths = []
    if not lengths or min(lengths) < lowest or count not in (None, len(lengths)):
        wanted = "one for each file" if count is None else f"{count}, one for each file"
        raise DataError(
            f"`{name}` of the batch is {describe(given)}{f': {values}' if lengths else ''}, but must be positive whole "
            f"numbers of samples, {wanted}",
            remedy="correct it, leave it out if nothing is padded, or give it another name if it is something else",
        )
    return lengths


def _padded_width(batch: Mapping[str, Any], lengths: list[int]) -> int:
    """Returns the length of the last axis of all padded entries."""
    longest = max(lengths)
    arrays = list(_signals(batch))
    width: int = batch["noisy"].shape[-1] if "noisy" in batch else longest
    if width < longest or all(value.shape[-1] != width for value in arrays):
        raise DataError(
            f"`length` of the batch says that the longest file has {longest} samples, but the batch has "
            f"{describe_entries(batch)}",
            remedy="give the number of samples of each file before it was padded; a batch padded beyond the longest "
            "file is cut if its signals are called `noisy` and `clean`",
        )
    return width
