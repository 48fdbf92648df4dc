"""What a metric is."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Metric(Protocol):
    """A number that says how near an estimate is to its reference.

    Attributes:
        name: its name in records, such as `si_sdr`.
        label: its name for people, such as `SI-SDR`.
        unit: `dB`, or "" for a bare number.
        higher_is_better: whether a higher number is better.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int) -> float:
        """The number for one file.

        Args:
            estimate: the waveform to judge, [time], on the CPU.
            reference: the clean waveform, [time].
            sr: the sample rate, in hertz.

        Returns:
            The number; NaN where there is none, as for PESQ where nobody speaks.
        """
        ...
