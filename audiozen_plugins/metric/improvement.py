"""Metrics of the improvement: the ratio of the network's output minus the ratio of its input."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from audiozen_core.binding.ranges import Range
from audiozen_plugins.metric.sdr import Sdr
from audiozen_plugins.metric.si_sdr import SiSdr


class SiSdrImprovement(SiSdr):
    """SI-SDRi: the SI-SDR of the estimate minus the SI-SDR of the noisy signal, in dB.

    The value of the noisy signal itself is 0. In the table of a test, SI-SDRi equals the gain of `si_sdr`. Use it as a
    score, or in tables without a column for the input. See `si_sdr`.

    Args:
        zero_mean: whether to subtract the mean of each signal first. If not, the metric is called
            `si_sdr_with_mean_improvement`.
    """

    needs = ("clean", "noisy")

    def __init__(self, zero_mean: bool = True) -> None:
        super().__init__(zero_mean)
        self.name, self.label = f"{self.name}_improvement", f"{self.label}i"

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int, noisy: Tensor | None = None) -> float:
        """Computes the improvement for signals [time], in dB.

        Raises:
            ValueError: the noisy signal is missing, or the shapes differ.
        """
        before = super().__call__(_require_noisy(noisy), reference, sr=sr)
        return super().__call__(estimate, reference, sr=sr) - before


class SdrImprovement(Sdr):
    """SDRi: the SDR of the estimate minus the SDR of the noisy signal, in dB.

    The value of the noisy signal itself is 0. See `bss_eval_sdr`.

    Args:
        filter_length: the length of the filter in samples. If it is not 512, the name of the metric contains the
            length, such as `sdr_1_improvement`.
    """

    needs = ("clean", "noisy")

    def __init__(self, filter_length: Annotated[int, Range(least=1)] = 512) -> None:
        super().__init__(filter_length)
        self.name, self.label = f"{self.name}_improvement", f"{self.label}i"

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int, noisy: Tensor | None = None) -> float:
        """Computes the improvement for signals [time], in dB.

        Raises:
            ValueError: the noisy signal is missing, or the shapes differ.
        """
        before = super().__call__(_require_noisy(noisy), reference, sr=sr)
        return super().__call__(estimate, reference, sr=sr) - before


def _require_noisy(noisy: Tensor | None) -> Tensor:
    if noisy is None:
        raise ValueError("an improvement needs the noisy signal as `noisy`")
    return noisy
