"""Builds the metrics that a trainer's arguments name, and checks that they fit the experiment."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from numbers import Real
from typing import Annotated, Any

from torch import nn

from audiozen_core.binding.component_names import ComponentName
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic, Severity
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.errors import AudioZenError, BuildError, MissingExtraError, RegistryError, RunError
from audiozen_core.registry.paths import resolve
from audiozen_core.scoring.metric import NEEDS, Metric, needs_of
from audiozen_core.scoring.report import STATES, scalar_names
from audiozen_core.scoring.torchmetrics_adapter import adapt_torchmetrics
from audiozen_core.trainer.held_modules import held_modules

MetricSpec = Annotated[str, ComponentName("metric")] | Mapping[str, Any] | Metric
"""A metric: its name, a table with `path` and `args` as in a TOML file, or the object itself.

If an argument of your trainer has this annotation, `audiozen check` resolves the names in its value.
"""

MetricCheck = Callable[[Metric], AudioZenError | None]
"""Returns the error if a metric can't be used; otherwise None."""

_ATTRIBUTES = ("name", "label", "unit", "higher_is_better")
# The scalars that a validation records without a metric. A metric must not have one of these names.
_TAKEN = {"loss", "score"}


def build_metric(spec: MetricSpec) -> Metric:
    """Builds a metric from its name or table, or checks an existing metric.

    AudioZEN has already built the metrics in nested tables of a TOML file, so this function gets them as objects.

    Args:
        spec: the name, the table, or the metric itself.

    Raises:
        AudioZenError: the metric does not exist, its package is missing, its constructor raised an error, its name
            belongs to another scalar, or its attribute `sample_rates` or `needs` has the wrong type.
    """
    if isinstance(spec, str):
        spec = {"path": spec}
    metric: Any = spec
    if isinstance(spec, Mapping):
        metric = _built(spec["path"], spec.get("args", {}))
    metric = adapt_torchmetrics(metric)
    if not callable(metric) or not all(hasattr(metric, name) for name in _ATTRIBUTES):
        raise RunError(
            f"`{spec}` is not a metric, which must be callable and have "
            f"{', '.join(f'`{name}`' for name in _ATTRIBUTES)}",
            remedy="choose one of the metrics that `audiozen plugins` lists",
        )
    for module in (*held_modules(metric).values(), *[metric] * isinstance(metric, nn.Module)):
        # In training mode, dropout would make the score random, and each file would change the running means of batch
        # normalisation.
        module.eval().requires_grad_(False)
    checked: Metric = metric
    if taken := sorted(_TAKEN & set(scalar_names(checked.name))):
        raise RunError(
            f"a metric can't have the `name` `{checked.name}`, because a validation records its {taken[0]} under this "
            "name",
            remedy="give the metric another `name`",
        )
    if not _are_rates(rates := getattr(checked, "sample_rates", None)):
        raise RunError(
            f"`sample_rates` of the metric `{checked.name}` is {rates!r}, but must be a tuple of numbers in hertz",
            remedy="write, for example, `sample_rates = (8000, 16000)`, or leave it out if the metric takes any rate",
        )
    if not isinstance(needs := needs_of(checked), tuple) or not set(needs) <= set(NEEDS):
        raise RunError(
            f"`needs` of the metric `{checked.name}` is {needs!r}, but must be a tuple of "
            f"{', '.join(f'`{need}`' for need in NEEDS)}",
            remedy='write, for example, `needs = ("clean", "noisy")`, or `needs = ()` for a metric without a reference',
        )
    return checked


def _built(path: str, args: Mapping[str, Any]) -> Any:
    resolved = resolve(path, section="metric")
    try:
        return resolved.build(args)
    except AudioZenError:
        raise
    except (Exception, SystemExit) as error:
        raise BuildError.caused_by(error, f"the metric `{path}` can't be built:") from error


def _are_rates(rates: Any) -> bool:
    """Returns whether a value is valid for `sample_rates` of a metric: None or a collection of numbers."""
    return rates is None or (
        isinstance(rates, Collection)
        and not isinstance(rates, str | bytes | Mapping)
        and all(isinstance(rate, Real) for rate in rates)
    )


def sample_rate_error(metric: Metric, sr: int) -> RunError | None:
    """Returns the error if a metric is not defined for the sample rate of an experiment; otherwise None.

    Args:
        metric: the metric.
        sr: the sample rate, in hertz.
    """
    rates = getattr(metric, "sample_rates", None)
    if rates is None or sr in rates:
        return None
    takes = " or ".join(map(str, sorted(rates)))
    remedy = f"leave `{metric.name}` out of the metrics"
    if hasattr(metric, "resample"):
        remedy += ", or rate a resampled copy: write the metric as a table, and add `resample = true` to its `args`"
    return RunError(f"{metric.label} takes {takes} Hz, but `sr` in [acoustics] is {sr}", remedy=remedy)


def needs_error(metric: Metric, available: Collection[str]) -> RunError | None:
    """Returns the error if the files lack something that a metric needs; otherwise None.

    Args:
        metric: the metric.
        available: what the files have besides the rated signals: some of `clean`, `noisy`, `far_end`, `text` and
            `network`.
    """
    lacking = [f"`{need}`" for need in needs_of(metric) if need not in available]
    if not lacking:
        return None
    if "`network`" in lacking:
        return RunError(
            f"{metric.label} watches the network while it enhances, which only a test can do",
            remedy=f"use `{metric.name}` only in the `metrics` of the trainer",
        )
    return RunError(
        f"{metric.label} needs {' and '.join(lacking)}, which the files lack",
        remedy=f"give the files {' and '.join(lacking)}, or leave `{metric.name}` out of the metrics",
    )


def direction_error(metric: Metric, save_max_score: bool) -> RunError | None:
    """Returns the error if `higher_is_better` of a metric contradicts `save_max_score`; otherwise None.

    Args:
        metric: the metric whose mean is the score.
        save_max_score: the trainer's argument that says whether a higher score is better.
    """
    if metric.higher_is_better == save_max_score:
        return None
    better = "higher" if metric.higher_is_better else "lower"
    wanted = str(metric.higher_is_better).lower()
    return RunError(
        f"{metric.label} is better when {better}, but with `save_max_score = {str(save_max_score).lower()}` the worst "
        "epoch would count as the best",
        remedy=f"set `save_max_score = {wanted}` in [trainer.args], or use another metric as `score`",
    )


def repetition_error(
    metric: Metric, earlier: Sequence[Metric], states: Sequence[str] | Mapping[str, str] = STATES
) -> RunError | None:
    """Returns the error if a metric would record a scalar with the same name as an earlier metric; otherwise None."""
    for other in earlier:
        if metric.name == other.name:
            return RunError(
                f"the metric `{metric.name}` is listed twice",
                remedy="list each metric once in the `metrics` of the trainer",
            )
        names, others = (scalar_names(each.name, states) for each in (metric, other))
        if shared := [name for name in names if name in others]:
            return RunError(
                f"the metrics `{other.name}` and `{metric.name}` would both record the scalar `{shared[0]}`",
                remedy="give one of them another `name`: a metric `x` records "
                f"`{'`, `'.join(scalar_names('x', states))}`",
            )
    return None


def build_metrics(
    specs: Sequence[MetricSpec],
    sr: int,
    *,
    states: Sequence[str] | Mapping[str, str] = STATES,
    wrap: Callable[[Metric], Metric] | None = None,
    available: Collection[str] = NEEDS,
) -> tuple[list[Metric], list[AudioZenError]]:
    """Builds the metrics that a trainer can use, and explains why other metrics are left out.

    Args:
        specs: the metrics, as names, tables or objects.
        sr: the sample rate of the experiment, in hertz.
        states: the states of the report, with the output last. They determine the names of the scalars, which must
            differ between metrics.
        wrap: called with each metric; returns the metric that the trainer uses instead. The returned metric determines
            the names of the scalars.
        available: what the files have for metrics besides the rated signals; see `needs_error`.

    Returns:
        The metrics that the trainer uses, and an error for each metric that is left out. A metric is left out if its
        package is missing, if it does not accept the sample rate, or if it needs something that the files lack.

    Raises:
        AudioZenError: a metric does not exist or can't be used, or two metrics record scalars with the same name.
    """
    metrics: list[Metric] = []
    left_out: list[AudioZenError] = []
    for spec in specs:
        try:
            metric = build_metric(spec)
        except MissingExtraError as error:
            left_out.append(error)
            continue
        if unusable := sample_rate_error(metric, sr) or needs_error(metric, available):
            left_out.append(unusable)
            continue
        used = wrap(metric) if wrap else metric
        if repeated := repetition_error(used, metrics, states):
            raise repeated
        metrics.append(used)
    return metrics, left_out


def check_metrics(
    specs: object,
    argument: str,
    *,
    sr: int,
    states: Sequence[str] | Mapping[str, str] = STATES,
    wrap: Callable[[Metric], Metric] | None = None,
) -> Iterator[Diagnostic]:
    """Yields the findings of `audiozen check` about the metrics of a trainer, for the trainer's `check_settings`.

    Args:
        specs: the value of the argument in the TOML file, or its default. A value of the wrong type is skipped here,
            because it is reported when the arguments are bound.
        argument: the name of the argument.
        sr: the sample rate of the experiment, in hertz.
        states: the `states` of `build_metrics`.
        wrap: the `wrap` of `build_metrics`.

    Yields:
        A warning for each metric that `build_metrics` leaves out, and an error for each metric that it rejects.
    """
    earlier: list[Metric] = []

    def metric_error(metric: Metric) -> AudioZenError | None:
        if error := sample_rate_error(metric, sr):
            return error
        used = wrap(metric) if wrap else metric
        if repeated := repetition_error(used, earlier, states):
            raise repeated  # an error, not a warning, because no mode would start
        earlier.append(used)
        return None

    for index, spec in enumerate(specs if isinstance(specs, Sequence) else ()):
        if finding := metric_finding(spec, ("args", argument, index), severity="warning", check=metric_error):
            yield finding


def metric_finding(spec: object, place: KeyPath, *, severity: Severity, check: MetricCheck) -> Diagnostic | None:
    """Checks a metric as it is written in a TOML file, for `audiozen check`.

    Args:
        spec: the value in the file. A value of the wrong type is skipped here, because it is reported when the
            arguments are bound.
        place: the key path of the value.
        severity: `warning` if the trainer can do without the metric.
        check: returns what is wrong with the metric in this experiment.

    Returns:
        A finding if the metric's package is missing, if its constructor raised an error, if the object is not a
        metric, or if `check` returned an error; otherwise None. An unknown name is skipped here, because it is reported
        when the name is resolved.
    """
    if not isinstance(spec, str | Mapping):
        return None
    try:
        error = check(build_metric(spec))
        code = config_codes.NUMBERS_DISAGREE
    except MissingExtraError as missing:
        error, code = missing, missing.code
    except RegistryError:
        return None
    except AudioZenError as unusable:
        error, code, severity = unusable, config_codes.BAD_VALUE, "error"
    except Exception:
        # A property of a third-party metric has failed. The run will show its error with a traceback.
        return None
    return as_finding(error, code, place, severity=severity) if error else None


def as_finding(error: AudioZenError, code: str, place: KeyPath, *, severity: Severity = "error") -> Diagnostic:
    """Converts an error of a run to a finding of `audiozen check`."""
    help_note = (f"help: {error.remedy}",) if error.remedy else ()
    return Diagnostic(code, error.message, severity, place=place, notes=(*error.notes, *help_note))
