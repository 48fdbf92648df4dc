"""SI-SDR as a metric."""

from __future__ import annotations

from torch import Tensor

from audiozen_core.scoring.si_sdr import si_sdr


class SiSdr:
    """`si_sdr` as a metric, over the whole file.

    Args:
        zero_mean: whether to subtract the mean of both signals first. If not, the metric is called `si_sdr_with_mean`.
    """

    unit = "dB"
    higher_is_better = True
    keeps_signals = True

    def __init__(self, zero_mean: bool = True) -> None:
        self.zero_mean = zero_mean
        self.name = "si_sdr" if zero_mean else "si_sdr_with_mean"
        self.label = "SI-SDR" if zero_mean else "SI-SDR*"

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int) -> float:
        """Computes the ratio of the estimate [time] to the reference [time], in dB."""
        return si_sdr(estimate, reference, zero_mean=self.zero_mean).item()
