"""A metric of one signal for the signals of several speakers."""

from __future__ import annotations

from torch import Tensor

from audiozen_core.scoring.metric import Metric


class MeanOverSpeakers:
    """The mean of a metric over the speakers of a file, with the attributes of the metric.

    Args:
        metric: the metric of one signal.
    """

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.name = metric.name
        self.label = metric.label
        self.unit = metric.unit
        self.higher_is_better = metric.higher_is_better
        self.sample_rates = getattr(metric, "sample_rates", None)

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int) -> float:
        """Computes the mean for estimates and references [speakers, time] in the same order.

        If the metric has no value for a speaker, the mean is NaN.
        """
        values = [float(self.metric(one, other, sr=sr)) for one, other in zip(estimate, reference, strict=True)]
        return sum(values) / len(values)
