"""Computes the score and the loss of a validation set from the values of its files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import DataError, RunError
from audiozen_core.kinds import Mode
from audiozen_core.logging import get_logger
from audiozen_core.scoring.metric import Metric
from audiozen_core.scoring.rating import RatedFile
from audiozen_core.scoring.report import Report


@dataclass(frozen=True, slots=True)
class FileResult:
    """The ratings of one validation file, its loss if there is a loss function, and the scalars of the loss."""

    row: RatedFile
    loss: Tensor | None
    recorded: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ValidationScores:
    """The result of a validation for one data set.

    Attributes:
        scalars: the means over the files. There is a mean of the metric for the enhanced signals, of the metric for
            the noisy signals (`<metric>_noisy`), of `loss`, and of each scalar that the loss records, such as
            `loss/si_snr`. If files have no value, `<metric>_missing` is the number of these files.
        faulty_pairs: lines that name the files that are left out of the means because of their signals.
        faulty_outputs: lines that name the files without a value because of the network's output. If there is such a
            file, the mean of the metric is NaN.
        why_no_mean: the reason if the mean of the metric is not finite; "" if it is finite.
    """

    scalars: dict[str, float]
    faulty_pairs: list[str]
    faulty_outputs: list[str]
    why_no_mean: str


def validation_scores(report: Report, files: Sequence[FileResult], *, gain: bool = False) -> ValidationScores:
    """Computes the means of a validation set, over the files whose noisy signal has a value.

    Args:
        report: the values of the files. Its only metric is the metric of the score.
        files: the results of the files that `report` covers.
        gain: whether to add the mean improvement over the noisy signals (`<metric>_gain`).
    """
    (metric,) = report.metrics
    scalars = {name: value for name, value in report.summary().items() if gain or name != f"{metric.name}_gain"}
    faulty_outputs = report.faulty_outputs()
    has_mean = math.isfinite(scalars[metric.name])
    why_no_mean = "" if has_mean else "; ".join(faulty_outputs or report.faulty_pairs())
    at_fault = {row.id for row in report.without_value(metric)[0]}
    counted = [file for file in files if file.row.id not in at_fault]
    losses = {file.row.id: float(file.loss) for file in counted if file.loss is not None}
    if any(file.loss is not None for file in files):
        scalars["loss"] = sum(losses.values()) / len(losses) if losses else math.nan
    for name in dict.fromkeys(name for file in counted for name in file.recorded):
        values = [float(file.recorded[name]) for file in counted if name in file.recorded]
        scalars[name] = sum(values) / len(values)
    if broken := [name for name, loss in losses.items() if not math.isfinite(loss)]:
        faulty_outputs.append(f"the loss is not finite for {len(broken)} of {len(files)} files: {listed(broken)}")
    return ValidationScores(scalars, report.faulty_pairs(), faulty_outputs, why_no_mean)


def unrated(name: str, faults: Mapping[str, str], metric: Metric, states: Iterable[str]) -> RatedFile:
    """Returns the row of a pair that is checked, but not rated. It has the faults of the signals, and no values."""
    return RatedFile(name, {state: {metric.name: math.nan} for state in states}, faults)


def no_pair(mode: Mode, prefix: str, report: Report, remedy: str) -> DataError:
    """Returns the error for a data set whose pairs are all degenerate.

    Args:
        mode: the mode that the data set is for.
        prefix: the name of the data set with a slash, or "" if it is the only one.
        report: all files of the data set.
        remedy: what to do.
    """
    name = f" `{prefix.rstrip('/')}`" * bool(prefix)
    return DataError(
        f"[{mode}_dataset]{name} has no pair that can be rated", notes=report.faulty_pairs(), remedy=remedy
    )


def unknown_set(name: str | None, names: Sequence[str]) -> RunError | None:
    """Returns an error if no validation set has the name in `score_dataset`; None without validation sets."""
    if name is None or not names or name in names:
        return None
    known = ", ".join(f"`{other}`" for other in names)
    return RunError(
        f"`score_dataset` in [trainer.args] is `{name}`, and no validation set has this name",
        remedy=f"use one of these, or give a data set this `name`: {known}",
    )


def index_of_set(name: str | None, names: Sequence[str]) -> int:
    """Returns the index of the validation set that gives the score, by default the first.

    Raises:
        RunError: no validation set has this name.
    """
    if error := unknown_set(name, names):
        raise error
    if len(names) > 1:
        get_logger().info(f"the score is that of the validation set `{name or names[0]}`", sets=", ".join(names))
    return list(names).index(name) if name is not None and names else 0
