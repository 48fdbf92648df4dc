"""The metrics that a trainer's arguments name: built, and compared with the sample rate of the experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from audiozen_core.binding.arguments import build
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic, Severity
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.errors import AudioZenError, MissingExtraError, RunError
from audiozen_core.registry.paths import resolve
from audiozen_plugins.metric.metric import Metric

MetricSpec = str | Mapping[str, Any] | Metric
"""A metric as in a TOML file, by its name or as a table with `path` and `args`; or the object itself."""


def build_metric(spec: MetricSpec) -> Metric:
    """Returns the metric for a name or a table. Tables in the TOML file have already been built.

    Raises:
        AudioZenError: there is no such metric, or its package is not installed.
    """
    if isinstance(spec, str):
        spec = {"path": spec}
    metric: Any = spec
    if isinstance(spec, Mapping):
        metric = build(resolve(spec["path"], section="metric").target, spec.get("args", {}))
    if not callable(metric) or not all(hasattr(metric, name) for name in ("name", "label", "unit")):
        raise RunError(f"`{spec}` is not a metric", remedy="`audiozen plugins` lists those that are installed")
    found: Metric = metric
    return found


def rate_error(metric: Metric, sr: int) -> RunError | None:
    """Returns the error for a metric that is not defined for a sample rate in hertz; None if it is."""
    rates = getattr(metric, "sample_rates", None)
    if rates is None or sr in rates:
        return None
    takes = " or ".join(map(str, sorted(rates)))
    remedy = f"leave `{metric.name}` out of the metrics"
    if hasattr(metric, "resample"):
        remedy += f', or rate a resampled copy: `{{ path = "{metric.name}", args = {{ resample = true }} }}`'
    return RunError(f"{metric.label} takes {takes} Hz, but `sr` in [acoustics] is {sr}", remedy=remedy)


def usable_metrics(specs: Sequence[MetricSpec], sr: int) -> tuple[list[Metric], list[AudioZenError]]:
    """Builds metrics. Returns them, and why others are left out: a package is missing, or the rate is not theirs.

    Raises:
        AudioZenError: there is no such metric.
    """
    metrics: list[Metric] = []
    left_out: list[AudioZenError] = []
    for spec in specs:
        try:
            metric = build_metric(spec)
        except MissingExtraError as error:
            left_out.append(error)
            continue
        wrong_rate = rate_error(metric, sr)
        if wrong_rate is None:
            metrics.append(metric)
        else:
            left_out.append(wrong_rate)
    return metrics, left_out


def metric_finding(spec: object, sr: int, place: KeyPath, *, severity: Severity) -> Diagnostic | None:
    """Checks a metric as it is written in a TOML file, for `audiozen check`.

    Args:
        spec: the value in the file. A value of another form is reported when the arguments are bound.
        sr: the sample rate of the experiment, in hertz.
        place: the key path of the value.
        severity: `warning` if the trainer can do without the metric.

    Returns:
        What is wrong: there is no such metric, its package is missing, or it is not defined for the rate.
    """
    if not isinstance(spec, str | Mapping):
        return None
    try:
        error: AudioZenError | None = rate_error(build_metric(spec), sr)
        code = config_codes.NUMBERS_DISAGREE
    except MissingExtraError as missing:
        error, code = missing, missing.code
    except AudioZenError as unknown:
        error, code, severity = unknown, config_codes.BAD_VALUE, "error"
    except Exception:
        # The constructor of somebody else's metric fails. The run shows its error with the traceback.
        return None
    if error is None:
        return None
    return Diagnostic(
        code, error.message, severity, place=place, notes=(f"help: {error.remedy}",) if error.remedy else ()
    )
