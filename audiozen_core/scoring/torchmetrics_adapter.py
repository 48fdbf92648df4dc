"""Adapts metrics of torchmetrics to the interface `Metric`, so that tests and validations can use them."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from audiozen_core.errors import RunError


class TorchmetricsAdapter:
    """Rates files with a metric of torchmetrics, such as `torchmetrics.audio.SignalNoiseRatio`.

    Args:
        metric: the metric.

    Raises:
        RunError: the metric does not say whether a higher value is better.
    """

    packages = ("torchmetrics",)

    def __init__(self, metric: Any) -> None:
        self.label = type(metric).__name__
        self.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", self.label).lower()
        # In torchmetrics.audio, metrics whose names end in "Ratio" are in decibels.
        self.unit = "dB" if self.name.endswith("ratio") else ""
        if not isinstance(metric.higher_is_better, bool):
            raise RunError(
                f"the metric `{self.label}` of torchmetrics does not say whether a higher value is better",
                remedy="use a class derived from it, with the attribute `higher_is_better`",
            )
        self.higher_is_better = metric.higher_is_better
        self.metric = metric

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int) -> float:
        """Computes the value for one file. Both signals are [time]."""
        with torch.no_grad():
            value = self.metric(estimate[None], reference[None])
        self.metric.reset()  # otherwise the metric would average over all files
        return float(value)


def adapt_torchmetrics(metric: Any) -> Any:
    """Wraps a metric of torchmetrics in the interface `Metric`. Returns any other object unchanged."""
    is_torchmetrics = any(base.__module__ == "torchmetrics.metric" for base in type(metric).__mro__)
    return TorchmetricsAdapter(metric) if is_torchmetrics and not hasattr(metric, "label") else metric
