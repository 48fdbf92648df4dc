"""Metrics of separated sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from audiozen.metric import Metric, MetricSpec, build_metric, needs_of
from torch import Tensor

from audiozen_plugin_separation.permutations import best_permutation


class Pit:
    """Computes a metric of one signal for several sources in any order, as the mean for the best assignment.

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
        # The sources say which order is the best one.
        self.needs = tuple(dict.fromkeys(("clean", *needs_of(self.metric))))

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int, **needed: Any) -> float:
        """Computes the mean over the sources.

        Args:
            estimate: waveforms [sources, time].
            reference: waveforms of the same shape, in any order.
            sr: the sample rate, in hertz.
            needed: what else the metric needs, of the whole file; `noisy` is [sources, time] or [time].

        Raises:
            ValueError: the shapes differ.
        """
        return self.rate(estimate, reference, sr=sr, **needed)[0]

    def rate(self, estimate: Tensor, reference: Tensor, *, sr: int, **needed: Any) -> tuple[float, list[int]]:
        """Computes the mean over the sources, and also returns the index of the estimate for each source."""
        if estimate.shape != reference.shape or estimate.ndim != 2:
            raise ValueError(
                "two signals of the same shape [sources, time] are needed: "
                f"estimate {list(estimate.shape)}, reference {list(reference.shape)}"
            )
        if isinstance(noisy := needed.get("noisy"), Tensor) and noisy.ndim == 2:
            needed = {**needed, "noisy": noisy[0]}  # all sources have the same mixture
        call: Callable[..., float] = self.metric
        values = [[call(one, other, sr=sr, **needed) for other in reference] for one in estimate]
        sign = 1 if self.higher_is_better else -1
        mean, assignment = best_permutation(sign * torch.tensor(values, dtype=torch.float64))
        return sign * float(mean), assignment.tolist()


def in_pit(metric: Metric) -> Metric:
    """Wraps a metric of one signal in `Pit`. Returns a `Pit` unchanged."""
    return metric if isinstance(metric, Pit) else Pit(metric)
