"""Makes a batch from samples of different lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from audiozen_core.errors import DataError


def pad_collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Makes a batch from samples of an enhancement data set. Shorter waves are padded with zeros at the end.

    Args:
        samples: dicts with `id` (str), `noisy` (float32 [time]), `sr` (hertz) and, in all samples or in none, `clean`
            (float32 [time], as long as `noisy`) and `snr` (dB). Values of other keys are joined, too: tensors with one
            axis are padded, other tensors stacked, numbers become a tensor, and everything else a list.

    Returns:
        A dict with `id` (list of str), `noisy` and `clean` ([batch, time]), `length` (int64 [batch], in samples),
        `snr` (float32 [batch], dB) and `sr` (int).

    Raises:
        DataError: the samples differ in their keys or sample rates, or the waves of a sample differ in length.

    Example:
        >>> a = {"id": "a", "noisy": torch.ones(3), "sr": 16000}
        >>> b = {"id": "b", "noisy": torch.ones(2), "sr": 16000}
        >>> batch = pad_collate([a, b])
        >>> batch["noisy"].tolist(), batch["length"].tolist()
        ([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]], [3, 2])
    """
    first = samples[0]
    for sample in samples:
        _check(sample, first)
    batch: dict[str, Any] = {key: _join([sample[key] for sample in samples]) for key in first if key != "sr"}
    batch["length"] = torch.tensor([len(sample["noisy"]) for sample in samples])
    batch["sr"] = first["sr"]
    return batch


def _check(sample: dict[str, Any], first: dict[str, Any]) -> None:
    name, other = f"`{sample['id']}`", f"`{first['id']}`"
    if sample.keys() != first.keys():
        odd = ", ".join(sorted(sample.keys() ^ first.keys()))
        raise DataError(
            f"{name} and {other} can't be in one batch, because only one of them has {odd}",
            remedy="return the same keys for each item of the data set",
        )
    if sample["sr"] != first["sr"]:
        raise DataError(
            f"{name} has a sample rate of {sample['sr']} Hz, but {other} has {first['sr']} Hz",
            remedy="resample one of them",
        )
    if "clean" in sample and len(sample["clean"]) != len(sample["noisy"]):
        raise DataError(
            f"{name}: the noisy wave has {len(sample['noisy'])} samples, but the clean one has {len(sample['clean'])}",
            remedy="cut both to the same stretch",
        )


def _join(values: list[Any]) -> Any:
    if isinstance(values[0], torch.Tensor):
        return pad_sequence(values, batch_first=True) if values[0].ndim == 1 else torch.stack(values)
    if isinstance(values[0], float):
        return torch.tensor(values, dtype=torch.float32)
    if isinstance(values[0], int):
        return torch.tensor(values)
    return values
