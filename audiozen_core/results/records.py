"""The scores of one file, and what is known about a metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """What a table, a CSV and a JSON file say about a metric.

    Attributes:
        name: its name in files, such as `si_sdr`.
        label: its name in tables, such as `SI-SDR`.
        unit: `dB`, or "" if it has no unit.
        higher_is_better: whether a higher number is better.
        described: which implementation computed it, in words: its packages, versions, weights, arguments and rate.
        identity: the same as data. Empty if that is not known, as for a CSV of another program.
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
        values: by the name of the metric, its value; NaN if the metric has none for this file.
        conditions: by the name of the condition, such as `snr`, its value for this file; "" if that is not known.
        reasons: by the name of the metric, why it has no value.
    """

    id: str
    values: Mapping[str, float]
    conditions: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
