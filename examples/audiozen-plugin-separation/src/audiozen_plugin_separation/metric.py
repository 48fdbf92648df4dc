"""Metrics of separated sources."""

from __future__ import annotations

import torch
from audiozen.metric import Metric, MetricSpec, build_metric
from torch import Tensor

from audiozen_plugin_separation.permutations import best_permutation


class Pit:
    """A metric of one signal, for several sources in any order: the mean for the best assignment.

    Args:
        metric: the metric of one signal, by its name or as a table with `path` and `args`.
    """

    def __init__(self, metric: MetricSpec = "si_sdr") -> None:
        self.metric = build_metric(metric)
        self.name = f"pit_{self.metric.name}"
        self.label = self.metric.label
        self.unit = self.metric.unit
        self.higher_is_better = self.metric.higher_is_better
        self.sample_rates = getattr(self.metric, "sample_rates", None)

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int) -> float:
        """Computes the mean over the sources.

        Args:
            estimate: waveforms [sources, time].
            reference: waveforms of the same shape, in any order.
            sr: the sample rate, in hertz.

        Raises:
            ValueError: the shapes differ.
        """
        return self.rate(estimate, reference, sr=sr)[0]

    def rate(self, estimate: Tensor, reference: Tensor, *, sr: int) -> tuple[float, list[int]]:
        """Does the same, and also returns the index of the estimate that belongs to each source."""
        if estimate.shape != reference.shape or estimate.ndim != 2:
            raise ValueError(
                "two signals of the same shape [sources, time] are needed: "
                f"estimate {list(estimate.shape)}, reference {list(reference.shape)}"
            )
        values = [[self.metric(one, other, sr=sr) for other in reference] for one in estimate]
        sign = 1 if self.higher_is_better else -1
        mean, assignment = best_permutation(sign * torch.tensor(values, dtype=torch.float64))
        return sign * float(mean), assignment.tolist()


def in_pit(metric: Metric) -> Metric:
    """Wraps a metric of one signal in `Pit`. A metric that is one already is returned as it is."""
    return metric if isinstance(metric, Pit) else Pit(metric)
