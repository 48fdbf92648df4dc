"""Splits a padded batch into one batch per file, and removes the padding."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from audiozen_core.data.description import describe, describe_entries
from audiozen_core.errors import DataError


def each_file(batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Splits a batch into batches of one file each, without the padding.

    - Tensors and arrays [file, ...] and lists with one entry per file are split along the first axis.
    - `length` has the number of samples of each file, as a tensor, an array or a list of integers. With `length`,
      every tensor and array whose last axis is as long as the last axis of `noisy` is cut to the length of the file.
      If the batch has no `noisy`, the length of the longest file is used for this comparison.
    - Another signal can have its own lengths: `enrolment` is cut to `enrolment_length`.
    - Dicts are split recursively, and so are lists of tensors [file, ...], which torch's collate function makes from
      samples that contain lists.
    - All other values, such as lists of another length, are copied into the batch of every file unchanged.

    Args:
        batch: the batch.

    Yields:
        Dicts with the same keys: tensors and arrays [1, ...] and lists of one entry.

    Raises:
        DataError: `length`, or the length of another signal, does not have one number of samples for each file, or
            does not match any signal; or it is ambiguous whether a list has one entry per file.

    Example:
        >>> import torch
        >>> batch = {"id": ["a", "b"], "noisy": torch.ones(2, 3), "length": torch.tensor([3, 2]), "sr": 16000}
        >>> [(file["id"], list(file["noisy"].shape), file["sr"]) for file in each_file(batch)]
        [(['a'], [1, 3], 16000), (['b'], [1, 2], 16000)]
    """
    lengths = _lengths(batch, "length")
    count = len(batch["noisy"]) if "noisy" in batch or lengths is None else len(lengths)
    width = _padded_width(batch, lengths) if lengths else 0
    own_lengths = {key: _own_lengths(batch, key, count) for key, value in batch.items() if _is_signal(value, count)}
    for key, value in batch.items():
        _check_lists(value, key, count)
    for index in range(count):
        cut = (width, lengths[index]) if lengths else None
        file: dict[str, Any] = {}
        for key, value in batch.items():
            if cuts := own_lengths.get(key):
                file[key] = _copy(value[index : index + 1][..., : cuts[index]], value)
            else:
                file[key] = _part(value, index, count, cut)
        yield file


def _part(value: Any, index: int, count: int, cut: tuple[int, int] | None) -> Any:
    """Returns the part of a value for one file.

    Args:
        value: the value in the whole batch.
        index: the index of the file.
        count: the number of files.
        cut: the length of padded signals and the length of the file; None if signals are not cut.
    """
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
    # The copy has the same memory layout as a batch that was made from this file alone. With another alignment, some
    # kernels round differently. An uncut batch of one file already has this layout, and copying it could be slow.
    if part.shape == whole.shape:
        return part
    return part.clone() if isinstance(part, Tensor) else part.copy()


def _is_collated(value: Any, count: int) -> bool:
    """Returns whether an entry of a list has one part per file, as in the lists that torch's collate function makes."""
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
    """Raises a DataError if a list could have either one entry per file, or entries with one part per file."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            _check_lists(entry, f"{name}.{key}", count)
    if not isinstance(value, list | tuple) or hasattr(value, "_fields") or len(value) != count or count == 1:
        return
    # Tensors of equal shapes whose first axis is the number of files almost certainly have a part for each file.
    if _has_only_arrays(value) and len(set(map(describe, value))) == 1:
        return
    if all(_is_collated(entry, count) for entry in value):
        raise DataError(
            f"`{name}` of a batch of {count} files is {describe(value)}: it is not clear whether each "
            "entry belongs to one file or has a part for each file",
            remedy=f"return a dict instead of a list as `{name}` of a sample, or stack its tensors",
        )


def _is_signal(value: Any, count: int) -> bool:
    return isinstance(value, Tensor | np.ndarray) and value.ndim > 1 and len(value) == count


def _signals(value: Any) -> Iterator[Any]:
    """Yields all tensors and arrays with more than one axis, at any depth."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim > 1:
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _signals(entry)


def _own_lengths(batch: Mapping[str, Any], key: str, count: int) -> list[int] | None:
    """Returns the entry `<key>_length` as a list; None if the batch lacks it, and for `noisy` and `clean`."""
    name = f"{key}_length"
    if key in ("noisy", "clean") or (lengths := _lengths(batch, name, lowest=0, count=count)) is None:
        return None
    if max(lengths) > batch[key].shape[-1]:
        raise DataError(
            f"`{name}` of the batch has a length of {max(lengths)} samples, but `{key}` is {describe(batch[key])}",
            remedy=f"set `{name}` to the number of samples of each `{key}` before padding, or rename `{name}` if it is "
            "something else",
        )
    return lengths


def _lengths(batch: Mapping[str, Any], name: str, *, lowest: int = 1, count: int | None = None) -> list[int] | None:
    """Returns the entry `name` as the number of samples of each file; None if the batch does not have it."""
    entry = batch.get(name)
    if entry is None:
        return None
    values = entry.tolist() if isinstance(entry, Tensor | np.ndarray) else entry
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
            f"`{name}` of the batch is {describe(entry)}{f': {values}' if lengths else ''}, but must be positive whole "
            f"numbers of samples, {wanted}",
            remedy=f"correct `{name}`, leave it out if nothing is padded, or rename it if it is something else",
        )
    return lengths


def _padded_width(batch: Mapping[str, Any], lengths: list[int]) -> int:
    """Returns the length of the last axis of the padded signals."""
    longest = max(lengths)
    arrays = list(_signals(batch))
    width: int = batch["noisy"].shape[-1] if "noisy" in batch else longest
    if width < longest or all(value.shape[-1] != width for value in arrays):
        raise DataError(
            f"according to `length`, the longest file of the batch has {longest} samples, but the batch has "
            f"{describe_entries(batch)}",
            remedy="set `length` to the number of samples of each file before padding; a batch that is padded beyond "
            "the longest file must have a signal named `noisy`",
        )
    return width
