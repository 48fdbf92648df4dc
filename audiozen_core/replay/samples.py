"""The samples of a batch: their waveforms without padding, and what is known about each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiozen_core.data.each_file import each_file
from audiozen_core.errors import DataError
from audiozen_core.logging import get_logger

_SHORTEST_SECONDS = 0.02
_MOST_CHANNELS = 16


@dataclass(frozen=True, slots=True)
class Wave:
    """What is known about a waveform.

    Attributes:
        samples: [time], on the CPU.
        sr: its sample rate in Hz.
    """

    samples: Tensor
    sr: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / self.sr

    @property
    def not_finite(self) -> int:
        """The number of samples that are NaN or infinite."""
        return len(self.samples) - int(self.samples.isfinite().sum())

    @property
    def finite(self) -> Tensor:
        """The samples, with 0 in place of those that are not finite, which no player can play."""
        return self.samples.nan_to_num(0.0, 0.0, 0.0)

    @property
    def peak(self) -> float:
        """The largest magnitude of its finite samples; 1 is full scale."""
        return float(self.finite.abs().max()) if len(self.samples) else 0.0

    @property
    def level(self) -> float:
        """The root mean square of its finite samples in dB relative to full scale; minus infinity for silence."""
        mean = float(self.finite.double().square().mean()) if len(self.samples) else 0.0
        return 10 * math.log10(mean) if mean else -math.inf

    def described(self) -> dict[str, Any]:
        """Returns these numbers as data; None for the level of silence."""
        level = self.level
        found = {"seconds": self.seconds, "peak": self.peak, "level_db": level if math.isfinite(level) else None}
        if count := self.not_finite:
            found |= {"not_finite": count, "first_not_finite": int((~self.samples.isfinite()).int().argmax())}
        return found

    @property
    def remark(self) -> str:
        """What a reader should notice; "" if that is nothing."""
        remarks = [f"{self.not_finite} samples are not finite, written as 0"] if self.not_finite else []
        if self.peak > 1:
            remarks.append(f"louder than full scale: peak {self.peak:.3g}")
        if not self.peak:
            remarks.append("silent")
        return "; ".join(remarks)


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of a batch.

    Attributes:
        id: its ID; its index in the batch if it has none.
        waves: its waveforms by name; those of several speakers or channels are `clean_1`, `clean_2`, …
        values: the numbers and texts that the batch has for it, by name.
    """

    id: str
    waves: Mapping[str, Wave]
    values: Mapping[str, Any] = field(default_factory=dict)


def samples_of(batch: Any, sr: int) -> list[Sample]:
    """Takes a batch apart.

    A waveform is a tensor or an array of real numbers [sample, time] or [sample, channel, time] with up to 16 channels.
    Its time axis is as long as that of `noisy` (without `noisy`, as the longest one), or it has lengths of its own, as
    `enrolment_length`. With `length`, waveforms are cut to it; see `each_file`.

    Args:
        batch: a mapping, a dataclass, a tuple or a list of entries, or a tensor, on the CPU.
        sr: the sample rate in Hz.
    """
    entries = _entries(batch)
    signals = {name: value for name, value in entries.items() if _may_be_wave(value)}
    if not signals:
        count = next((len(value) for value in entries.values() if _has_samples(value)), 0)
        return [Sample(_id(entries, index), {}, _values(entries, index, count)) for index in range(count)]
    noisy = signals.get("noisy", max(signals.values(), key=lambda value: value.shape[-1]))
    count, width = len(noisy), noisy.shape[-1]
    waves = {
        name: value
        for name, value in signals.items()
        if len(value) == count and (value.shape[-1] == width or f"{name}_length" in entries)
    }
    if width < _SHORTEST_SECONDS * sr:
        waves = {}
    rest = {name: value for name, value in entries.items() if name not in waves}
    return [
        Sample(_id(entries, index), _named(file, sr), _values(rest, index, count))
        for index, file in enumerate(_files(waves, entries, count))
    ]


def _entries(batch: Any) -> dict[str, Any]:
    if isinstance(batch, Mapping):
        found: dict[str, Any] = {}
        for name, value in batch.items():
            inner = _entries(value) if isinstance(value, Mapping) else None
            found |= {str(name): value} if inner is None else {f"{name}.{key}": each for key, each in inner.items()}
    elif is_dataclass(batch) and not isinstance(batch, type):
        found = {item.name: getattr(batch, item.name) for item in fields(batch)}
    elif isinstance(batch, Sequence) and not isinstance(batch, str):
        names = getattr(batch, "_fields", [str(index) for index in range(len(batch))])
        found = dict(zip(names, batch, strict=True))
    else:
        found = {"batch": batch}
    return {name: torch.from_numpy(value) if _is_array(value) else value for name, value in found.items()}


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiub"


def _has_samples(value: Any) -> bool:
    return (isinstance(value, Tensor) and value.ndim > 0) or isinstance(value, list | tuple)


def _may_be_wave(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and (value.ndim == 2 or (value.ndim == 3 and value.shape[1] <= _MOST_CHANNELS))
        and value.shape[-1] > 1
        and len(value) > 0
    )


def _files(waves: Mapping[str, Tensor], entries: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    lengths = {name: entries[name] for name in ("length", *(f"{name}_length" for name in waves)) if name in entries}
    whole = [{name: value[index : index + 1] for name, value in waves.items()} for index in range(count)]
    if not lengths or not waves:
        return whole
    try:
        found = list(each_file({**waves, **lengths}))
    except DataError as error:
        get_logger().warning("the signals are not cut to their lengths", reason=error.message)
        return whole
    return [{name: file[name] for name in waves} for file in found]


def _named(file: Mapping[str, Tensor], sr: int) -> dict[str, Wave]:
    found: dict[str, Wave] = {}
    for name, value in file.items():
        channels = value.reshape(-1, value.shape[-1]).float()
        for number, channel in enumerate(channels, start=1):
            found[name if len(channels) == 1 else f"{name}_{number}"] = Wave(channel, sr)
    return found


def _id(entries: Mapping[str, Any], index: int) -> str:
    ids = entries.get("id")
    return str(ids[index]) if isinstance(ids, list | tuple) and index < len(ids) else str(index)


def _values(entries: Mapping[str, Any], index: int, count: int) -> dict[str, Any]:
    """Returns the numbers and texts of one sample, as JSON can have them."""
    found: dict[str, Any] = {}
    for name, value in entries.items():
        if name == "id" or not _has_samples(value) or len(value) != count:
            continue
        own = value[index]
        if isinstance(own, Tensor):
            own = own.item() if own.numel() == 1 and not own.is_complex() else None
        if isinstance(own, str | bool | int) or (isinstance(own, float) and math.isfinite(own)):
            found[name] = own
    return found
