"""The score and the loss of a validation set, from those of its files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from audiozen_plugins.metric.metric import Metric
from audiozen_plugins.metric.rating import Row
from audiozen_plugins.metric.report import Report


@dataclass(frozen=True, slots=True)
class Validated:
    """The values of one validation file, and its loss if there is a loss function."""

    row: Row
    loss: Tensor | None


@dataclass(frozen=True, slots=True)
class ValidationScores:
    """What a validation says about one data set.

    Attributes:
        scalars: the means over the files: that of the metric, `<metric>_noisy` and `loss`.
        faulty_pairs: which files are not in the means because of their signals, in words.
        faulty_outputs: which files have no value because of the network, in words. The mean of the metric is then NaN.
    """

    scalars: dict[str, float]
    faulty_pairs: list[str]
    faulty_outputs: list[str]


def validation_scores(metric: Metric, files: Sequence[Validated]) -> ValidationScores:
    """Computes the means of a validation set.

    A file whose noisy signal has no value is not in the mean. If only the network's output has none, the mean is NaN:
    the mean of the others would hide that the network fails.
    """
    report = Report([metric], [file.row for file in files])
    pairs, outputs = report.without_value(metric)
    summary = report.summary()
    scalars = {
        metric.name: math.nan if outputs else summary[metric.name],
        f"{metric.name}_noisy": summary[f"{metric.name}_noisy"],
    }
    at_fault = {id(row) for row in pairs}
    losses = [(float(file.loss), id(file.row) in at_fault) for file in files if file.loss is not None]
    # A degenerate pair may have an infinite loss. Any other loss that is not finite makes the mean so, too.
    counted = [loss for loss, degenerate in losses if math.isfinite(loss) or not degenerate]
    if losses:
        scalars["loss"] = sum(counted) / len(counted) if counted else math.nan
    faulty_outputs = report.faulty_outputs()
    if broken := [file.row.id for file in files if file.loss is not None and _broken(file, at_fault)]:
        faulty_outputs.append(
            f"the loss is not finite for {len(broken)} of {len(files)} files: {', '.join(broken[:8])}"
        )
    return ValidationScores(scalars, report.faulty_pairs(), faulty_outputs)


def _broken(file: Validated, at_fault: set[int]) -> bool:
    return id(file.row) not in at_fault and file.loss is not None and not math.isfinite(float(file.loss))
