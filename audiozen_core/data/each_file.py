"""Takes a padded batch apart, into one batch for each file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor


def each_file(batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields a batch of one file for each file of a batch, without the padding.

    Args:
        batch: tensors and lists with an entry for each file, among them `length` [batch], the number of samples of each
            file. Tensors whose last axis is as long as the longest file are cut to the file's length. Without `length`
            nothing is cut. Other values are those of all files.

    Yields:
        Dicts with the same keys: tensors [1, ...] and lists of one entry.

    Example:
        >>> import torch
        >>> batch = {"id": ["a", "b"], "noisy": torch.ones(2, 3), "length": torch.tensor([3, 2]), "sr": 16000}
        >>> [(file["id"], list(file["noisy"].shape), file["sr"]) for file in each_file(batch)]
        [(['a'], [1, 3], 16000), (['b'], [1, 2], 16000)]
    """
    given = batch.get("length")
    lengths = given.tolist() if isinstance(given, Tensor) else None
    count = len(lengths) if lengths is not None else len(batch["noisy"])
    for index in range(count):
        file: dict[str, Any] = {}
        for key, value in batch.items():
            if isinstance(value, Tensor) and value.ndim and len(value) == count:
                part = value[index : index + 1]
                if lengths is not None and value.ndim > 1 and value.shape[-1] == max(lengths):
                    part = part[..., : lengths[index]]
                # A copy lies in memory as a batch of this file alone would. Some kernels round by the alignment.
                file[key] = part.clone()
            elif isinstance(value, list | tuple) and len(value) == count:
                file[key] = [value[index]]
            else:
                file[key] = value
        yield file
