"""Makes a batch from samples of different lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from audiozen_core.data.description import describe
from audiozen_core.errors import DataError

_WAVES = ("noisy", "clean")
_ALIGNMENT = 64  # the alignment of new tensors on the CPU, in bytes


def pad_collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Makes a batch from samples of an enhancement data set. Shorter waves are padded with zeros at the end.

    The waves `noisy` and `clean` may be tensors or NumPy arrays of any floating-point type, and become float32. Integer
    waves raise an error, because their full scale is unknown.

    Args:
        samples: dicts with `id` (str), `noisy` (float [time]), `clean` (float [time], as long as `noisy`), `snr` (dB)
            and `sr` (hertz). All keys are optional, but all samples must have the same keys. Values of other keys are
            joined, too: tensors and arrays with one axis are padded, other tensors and arrays are stacked, numbers
            become a tensor, and everything else becomes a list.

    Returns:
        A dict with `id` (list of str), `noisy` and `clean` (float32 [batch, time]), `length` (int64 [batch]), `snr`
        (float32 [batch], dB) and `sr` (int). `length` is the number of samples of `noisy` without padding; if there is
        no `noisy`, it is the length of the first key that is padded. Each further key that is padded, such as
        `enrolment`, has its own lengths in `enrolment_length`, so that `each_file` can remove the padding.

    Raises:
        DataError: a sample is not a dict, or has a wave of the wrong type or shape; the samples differ in their keys,
            their sample rates, or in the dtypes or shapes of a key; or the waves of a sample differ in length.

    Example:
        >>> a = {"id": "a", "noisy": torch.ones(3), "sr": 16000}
        >>> b = {"id": "b", "noisy": torch.ones(2), "sr": 16000}
        >>> batch = pad_collate([a, b])
        >>> batch["noisy"].tolist(), batch["length"].tolist()
        ([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]], [3, 2])
    """
    return _collated(samples, keep=True)


def collate_read(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Makes a batch like `pad_collate`, but from samples that the data set does not keep.

    A batch of a single sample uses the waves of this sample without copying them, because they may be hours long.
    """
    return _collated(samples, keep=False)


def _collated(samples: Sequence[Mapping[str, Any]], *, keep: bool) -> dict[str, Any]:
    """Makes a batch. If `keep` is True, the batch must not share memory with the samples."""
    names = [_name(sample, position) for position, sample in enumerate(samples)]
    converted = [_convert(sample, name) for sample, name in zip(samples, names, strict=True)]
    first = converted[0]
    for sample, name in zip(converted, names, strict=True):
        _check(sample, name, first, names[0])
    batch = {key: _join(key, [sample[key] for sample in converted], names, keep=keep) for key in first if key != "sr"}
    waves = [key for key in dict.fromkeys((*_WAVES, *first)) if _is_padded(first.get(key))]
    for number, key in enumerate(waves):
        if number and key in _WAVES:  # `clean` is as long as `noisy`
            continue
        name = f"{key}_length" if number else "length"
        lengths = torch.tensor([len(sample[key]) for sample in converted])
        if name in batch and not _equal(batch[name], lengths):
            raise DataError(
                f"the samples contain `{name}`, which differs from the length of their `{key}`",
                remedy=f"leave `{name}` out, or give it another name",
            )
        batch[name] = lengths
    if "sr" in first:
        batch["sr"] = first["sr"]
    return batch


def _name(sample: Any, position: int) -> str:
    """Returns the name of a sample for messages: its ID, or else its position in the batch, counted from 1."""
    if isinstance(sample, Mapping) and "id" in sample:
        return f"`{sample['id']}`"
    return f"the sample at position {position + 1} of the batch"


def _convert(sample: Any, name: str) -> dict[str, Any]:
    """Returns a copy of a sample: arrays become tensors, waves become float32, and numbers of NumPy become numbers."""
    if not isinstance(sample, Mapping):
        raise DataError(
            f"{name} is {describe(sample)}, but `pad_collate` needs dicts",
            remedy='return a dict such as `{"id": …, "noisy": …, "clean": …, "sr": …}`, or set a `collate_fn` '
            "of your own in the table `dataloader`",
        )
    converted = {key: _wave(value, key, name) if key in _WAVES else _value(value) for key, value in sample.items()}
    if type(converted.get("id")) is int:
        converted["id"] = str(converted["id"])
    for key, kind, wanted in (("id", str, "a string"), ("sr", int, "a whole number of hertz")):
        if key in converted and (not isinstance(converted[key], kind) or isinstance(converted[key], bool)):
            raise DataError(
                f"`{key}` of {name} is {describe(sample[key])}: {sample[key]!r:.60}", remedy=f"give {wanted}"
            )
    if type(converted.get("snr")) is int:
        converted["snr"] = float(converted["snr"])
    return converted


def _wave(value: Any, key: str, name: str) -> Tensor:
    wave = _value(value)
    remedy = ""
    if not isinstance(wave, Tensor):
        remedy = "give a tensor or a NumPy array"
    elif not wave.is_floating_point():
        remedy = "scale it to -1 … 1 in the data set, where its full scale is known: divide int16 by 32768, for example"
        if wave.is_complex():
            remedy = "give the waveform, not a spectrogram"
    elif wave.ndim != 1:
        remedy = "give one channel as [time]: `wave[0]` of [channels, time], `wave[:, 0]` of [time, channels]"
    elif len(wave) == 0:
        remedy = "give at least one audio sample"
    else:
        return wave.float()
    raise DataError(f"`{key}` of {name} is {describe(value)}, but must be floats of the shape [time]", remedy=remedy)


def _value(value: Any) -> Any:
    """Converts an array of numbers to a tensor, and a number of NumPy or a tensor without axes to a number."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        # This copies the array in the machine's byte order. Torch can't use another byte order, negative strides or
        # read-only arrays.
        value = torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))
    if isinstance(value, np.generic) or (isinstance(value, Tensor) and value.ndim == 0):
        return value.item()
    return value


def _check(sample: dict[str, Any], name: str, first: dict[str, Any], other: str) -> None:
    if sample.keys() != first.keys():
        odd = ", ".join(sorted(map(str, sample.keys() ^ first.keys())))
        raise DataError(
            f"{name} and {other} can't be in one batch, because only one of them has {odd}",
            remedy="return the same keys for each item of the data set",
        )
    if sample.get("sr") != first.get("sr"):
        raise DataError(
            f"{name} has a sample rate of {sample['sr']} Hz, but {other} has {first['sr']} Hz",
            remedy="resample one of them",
        )
    if "noisy" in sample and "clean" in sample and len(sample["clean"]) != len(sample["noisy"]):
        raise DataError(
            f"{name}: the noisy wave has {len(sample['noisy'])} samples, but the clean wave has {len(sample['clean'])}",
            remedy="cut both to the same segment",
        )


def _equal(given: Any, lengths: Tensor) -> bool:
    return isinstance(given, Tensor) and given.tolist() == lengths.tolist()


def _is_padded(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 1


def _join(key: str, values: list[Any], names: list[str], *, keep: bool) -> Any:
    first = values[0]
    if not isinstance(first, Tensor | int | float):
        return values
    for value, name in zip(values, names, strict=True):
        # Without this check, padding would convert all tensors to the dtype of the first one.
        if not _fits(value, first):
            raise DataError(
                f"`{key}` of {name} is {describe(value)}, but {describe(first)} of {names[0]}",
                remedy="return the same type, dtype and shape for each sample; only tensors with one axis are padded",
            )
    if isinstance(first, Tensor):
        # If its memory is not aligned like a new tensor, the wave is copied, because some kernels round differently
        # with another alignment.
        if not keep and len(values) == 1 and first.is_contiguous() and first.data_ptr() % _ALIGNMENT == 0:
            return first.unsqueeze(0)
        return pad_sequence(values, batch_first=True) if first.ndim == 1 else torch.stack(values)
    if any(isinstance(value, float) for value in values):
        return torch.tensor(values, dtype=torch.float32)
    return torch.tensor(values)


def _fits(value: Any, first: Any) -> bool:
    """Returns whether two values fit into one tensor unchanged: both are numbers, or have the same dtype and shape."""
    if isinstance(first, Tensor):
        alike = isinstance(value, Tensor) and value.dtype == first.dtype and value.ndim == first.ndim
        return alike and (first.ndim == 1 or value.shape == first.shape)
    return isinstance(value, int | float) and isinstance(value, bool) == isinstance(first, bool)
