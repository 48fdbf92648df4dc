"""Applies a metric for one signal to the signals of several speakers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from audiozen_core.scoring.metric import Metric, keeps_signals, needs_of


class MeanOverSpeakers:
    """The mean of a metric over the speakers of a file. This object has the same attributes as the metric.

    Args:
        metric: the metric for one signal.
    """

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.name = metric.name
        self.label = metric.label
        self.unit = metric.unit
        self.higher_is_better = metric.higher_is_better
        self.sample_rates = getattr(metric, "sample_rates", None)
        self.needs = needs_of(metric)
        self.keeps_signals = keeps_signals(metric)
        if "network" in self.needs:
            self.watch = metric.watch  # type: ignore[attr-defined]

    def __call__(
        self, estimate: Tensor, reference: Tensor | None, *, sr: int, noisy: Tensor | None = None, **needed: Any
    ) -> float:
        """Computes the mean for estimates, references and inputs [speakers, time] in the same order.

        All other inputs, such as the far-end signal, belong to the whole file and are passed on unchanged. If the
        metric has no value for a speaker, the mean is NaN.
        """
        call: Callable[..., float] = self.metric
        values = []
        for speaker, signal in enumerate(estimate):
            inputs = needed if noisy is None else {**needed, "noisy": noisy[speaker]}
            values.append(float(call(signal, None if reference is None else reference[speaker], sr=sr, **inputs)))
        return sum(values) / len(values)
