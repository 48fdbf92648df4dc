"""Data classes for the scores of one file and for the description of a metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """The description of a metric in tables, CSV and JSON files.

    Attributes:
        name: the name in files, such as `si_sdr`.
        label: the name in tables, such as `SI-SDR`.
        unit: `dB`, or "" if the metric has no unit.
        higher_is_better: whether a higher number is better.
        described: a text that describes the implementation: packages, versions, weights, arguments and sample rate.
        identity: the same description as data. It is empty if unknown, as in a CSV file from another program.
    """

    name: str
    label: str = ""
    unit: str = ""
    higher_is_better: bool = True
    described: str = ""
    identity: Mapping[str, Any] = field(default_factory=dict)

    @property
    def heading(self) -> str:
        """The label with the unit, such as `SI-SDR in dB`."""
        return f"{self.label or self.name}{f' in {self.unit}' * bool(self.unit)}"


@dataclass(frozen=True, slots=True)
class FileScores:
    """The scores of one file.

    Attributes:
        id: the ID of the file.
        values: the value of each metric, by metric name; NaN if this file has no value.
        conditions: the value of each condition, such as `snr`, by the name of the condition; "" if unknown.
        reasons: why a value is missing, by metric name.
    """

    id: str
    values: Mapping[str, float]
    conditions: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
