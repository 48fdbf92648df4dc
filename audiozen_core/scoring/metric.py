"""The interface of a metric."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Metric(Protocol):
    """Rates an estimate, usually by comparing it with its reference.

    Attributes:
        name: its name in files, such as `si_sdr`.
        label: its name in tables, such as `SI-SDR`.
        unit: `dB`, or "" if it has no unit.
        higher_is_better: whether a higher number is better.

    The scalars of a metric `x` are `x`, `x_noisy`, `x_gain` and `x_missing` (with the states of the trainer's report in
    place of `noisy`), and no other metric may have one of these.

    An optional attribute `sample_rates`, a tuple of numbers, names the rates in hertz that the metric is defined for.
    Without it, the metric takes any rate. `audiozen check` builds the metrics of a trainer, compares the rates with
    `sr` in `[acoustics]`, and reports a metric that does not take it; a test then leaves the metric out. So a
    constructor should be fast, and open large models when the metric is first called.

    A network that a metric has when it is built is switched to evaluation mode, and frozen. A metric that opens one
    later does this itself.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int) -> float:
        """Computes the value for one file.

        Args:
            estimate: the waveform to rate, [time], on the CPU.
            reference: the clean waveform, [time], on the CPU.
            sr: the sample rate, in hertz.

        Returns:
            The value; NaN if it is not defined, for instance PESQ without an utterance.
        """
        ...
