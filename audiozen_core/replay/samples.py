"""Splits a batch into samples, with their waveforms (without padding) and other values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiozen_core.data.each_file import each_file
from audiozen_core.data.waveforms import may_be_waves
from audiozen_core.errors import DataError
from audiozen_core.logging import get_logger
from audiozen_core.results.files import finite_or_none

_SHORTEST_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Waveform:
    """A waveform.

    Attributes:
        samples: the samples [time], on the CPU.
        sr: the sample rate in Hz.
    """

    samples: Tensor
    sr: int

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return len(self.samples) / self.sr

    @property
    def not_finite(self) -> int:
        """The number of samples that are NaN or infinite."""
        return len(self.samples) - int(self.samples.isfinite().sum())

    @property
    def finite(self) -> Tensor:
        """The samples, with NaN and infinite samples replaced by 0, because audio players can't play them."""
        return self.samples.nan_to_num(0.0, 0.0, 0.0)

    @property
    def peak(self) -> float:
        """The largest magnitude of the finite samples; 1 is full scale."""
        return float(self.finite.abs().max()) if len(self.samples) else 0.0

    @property
    def level(self) -> float:
        """The root mean square in dB relative to full scale; minus infinity for silence.

        Samples that are not finite count as 0.
        """
        mean = float(self.finite.double().square().mean()) if len(self.samples) else 0.0
        return 10 * math.log10(mean) if mean else -math.inf

    def described(self) -> dict[str, Any]:
        """Returns the properties of the waveform as data for `json.dumps`. The level of silence is None."""
        level = self.level
        data = {"seconds": self.seconds, "peak": self.peak, "level_db": finite_or_none(level)}
        if count := self.not_finite:
            data |= {"not_finite": count, "first_not_finite": int((~self.samples.isfinite()).int().argmax())}
        return data

    @property
    def remark(self) -> str:
        """A short text about problems of the waveform; "" if there are none."""
        remarks = [f"{self.not_finite} samples are not finite, written as 0"] if self.not_finite else []
        if self.peak > 1:
            remarks.append(f"louder than full scale: peak {self.peak:.3g}")
        if not self.peak:
            remarks.append("silent")
        return "; ".join(remarks)


@dataclass(frozen=True, slots=True)
class BatchSample:
    """One sample of a batch.

    Attributes:
        id: the ID of the sample, or its index in the batch if the batch has no IDs.
        waves: the waveforms by name. Several speakers or channels are named `clean_1`, `clean_2`, …
        values: the numbers and texts of the sample in the batch, by name.
    """

    id: str
    waves: Mapping[str, Waveform]
    values: Mapping[str, Any] = field(default_factory=dict)


def samples_of(batch: Any, sr: int) -> list[BatchSample]:
    """Splits a batch into samples.

    A real tensor or array [sample, time] or [sample, channel, time], with up to 16 channels, is a waveform if at least
    one of two conditions holds:

    - Its time axis is as long as the time axis of `noisy`. Without `noisy`, the longest entry is used instead.
    - The batch has an entry with its lengths, such as `enrolment_length` for `enrolment`.

    If the batch has `length`, the waveforms are cut to this length; see `each_file`.

    Args:
        batch: a mapping, a dataclass, a tuple or a list of entries, or a tensor, on the CPU.
        sr: the sample rate in Hz.
    """
    entries = _entries(batch)
    signals = {name: value for name, value in entries.items() if may_be_waves(value)}
    if not signals:
        count = next((len(value) for value in entries.values() if _has_samples(value)), 0)
        return [BatchSample(_id(entries, index), {}, _values(entries, index, count)) for index in range(count)]
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
        BatchSample(_id(entries, index), _named(file, sr), _values(rest, index, count))
        for index, file in enumerate(_files(waves, entries, count))
    ]


def _entries(batch: Any) -> dict[str, Any]:
    if isinstance(batch, Mapping):
        entries: dict[str, Any] = {}
        for name, value in batch.items():
            inner = _entries(value) if isinstance(value, Mapping) else None
            entries |= {str(name): value} if inner is None else {f"{name}.{key}": each for key, each in inner.items()}
    elif is_dataclass(batch) and not isinstance(batch, type):
        entries = {item.name: getattr(batch, item.name) for item in fields(batch)}
    elif isinstance(batch, Sequence) and not isinstance(batch, str):
        names = getattr(batch, "_fields", [str(index) for index in range(len(batch))])
        entries = dict(zip(names, batch, strict=True))
    else:
        entries = {"batch": batch}
    return {name: torch.from_numpy(value) if _is_array(value) else value for name, value in entries.items()}


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiub"


def _has_samples(value: Any) -> bool:
    return (isinstance(value, Tensor) and value.ndim > 0) or isinstance(value, list | tuple)


def _files(waves: Mapping[str, Tensor], entries: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    lengths = {name: entries[name] for name in ("length", *(f"{name}_length" for name in waves)) if name in entries}
    whole = [{name: value[index : index + 1] for name, value in waves.items()} for index in range(count)]
    if not lengths or not waves:
        return whole
    try:
        files = list(each_file({**waves, **lengths}))
    except DataError as error:
        get_logger().warning(
            "the waveforms can't be cut to their lengths, so they keep their padding", reason=error.message
        )
        return whole
    return [{name: file[name] for name in waves} for file in files]


def _named(file: Mapping[str, Tensor], sr: int) -> dict[str, Waveform]:
    waves: dict[str, Waveform] = {}
    for name, value in file.items():
        channels = value.reshape(-1, value.shape[-1]).float()
        for number, channel in enumerate(channels, start=1):
            waves[name if len(channels) == 1 else f"{name}_{number}"] = Waveform(channel, sr)
    return waves


def _id(entries: Mapping[str, Any], index: int) -> str:
    ids = entries.get("id")
    return str(ids[index]) if isinstance(ids, list | tuple) and index < len(ids) else str(index)


def _values(entries: Mapping[str, Any], index: int, count: int) -> dict[str, Any]:
    """Returns the numbers and texts of one sample that JSON can represent."""
    values: dict[str, Any] = {}
    for name, value in entries.items():
        if name == "id" or not _has_samples(value) or len(value) != count:
            continue
        entry = value[index]
        if isinstance(entry, Tensor):
            entry = entry.item() if entry.numel() == 1 and not entry.is_complex() else None
        if isinstance(entry, str | bool | int) or (isinstance(entry, float) and math.isfinite(entry)):
            values[name] = entry
    return values
