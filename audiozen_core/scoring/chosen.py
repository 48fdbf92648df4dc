"""The metrics that a trainer's arguments name: built, and compared with the sample rate of the experiment."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from numbers import Real
from typing import Annotated, Any

from torch import nn

from audiozen_core.binding.arguments import build
from audiozen_core.binding.component_names import ComponentName
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic, Severity
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.errors import AudioZenError, MissingExtraError, RegistryError, RunError
from audiozen_core.registry.paths import resolve
from audiozen_core.scoring.metric import NEEDS, Metric, needs_of
from audiozen_core.scoring.of_torchmetrics import adapted
from audiozen_core.scoring.report import STATES, scalar_names
from audiozen_core.trainer.held_modules import held_modules

MetricSpec = Annotated[str, ComponentName("metric")] | Mapping[str, Any] | Metric
"""A metric as in a TOML file, by its name or as a table with `path` and `args`; or the object itself.

Annotate an argument of your trainer with it, and `audiozen check` resolves the names that a file gives.
"""

MetricCheck = Callable[[Metric], AudioZenError | None]
"""Returns why a metric can't be used; None if it can."""

_ATTRIBUTES = ("name", "label", "unit", "higher_is_better")
# The scalars of a validation that are not those of a metric.
_TAKEN = {"loss", "score"}


def build_metric(spec: MetricSpec) -> Metric:
    """Returns the metric for a name or a table. Tables in the TOML file have already been built.

    Args:
        spec: the name, the table, or the metric itself.

    Raises:
        AudioZenError: the metric does not exist, its package is missing, it has the name of another scalar, or its
            `sample_rates` or `needs` have another form.
    """
    if isinstance(spec, str):
        spec = {"path": spec}
    metric: Any = spec
    if isinstance(spec, Mapping):
        metric = build(resolve(spec["path"], section="metric").target, spec.get("args", {}))
    metric = adapted(metric)
    if not callable(metric) or not all(hasattr(metric, name) for name in _ATTRIBUTES):
        raise RunError(
            f"`{spec}` is not a metric, which can be called and has {', '.join(f'`{name}`' for name in _ATTRIBUTES)}",
            remedy="`audiozen plugins` lists those that are installed",
        )
    for module in (*held_modules(metric).values(), *[metric] * isinstance(metric, nn.Module)):
        # Otherwise its dropout would make the score random, and each file would change its running means.
        module.eval().requires_grad_(False)
    found: Metric = metric
    if taken := sorted(_TAKEN & set(scalar_names(found.name))):
        raise RunError(
            f"a metric can't have the `name` `{found.name}`, because a validation records its {taken[0]} under it",
            remedy="give the metric another `name`",
        )
    if not _are_rates(rates := getattr(found, "sample_rates", None)):
        raise RunError(
            f"`sample_rates` of the metric `{found.name}` is {rates!r}, but must be a tuple of numbers in hertz",
            remedy="write for instance `sample_rates = (8000, 16000)`, or leave it out for a metric that takes any",
        )
    if not isinstance(needs := needs_of(found), tuple) or not set(needs) <= set(NEEDS):
        raise RunError(
            f"`needs` of the metric `{found.name}` is {needs!r}, but must be a tuple of "
            f"{', '.join(f'`{need}`' for need in NEEDS)}",
            remedy='write for instance `needs = ("clean", "noisy")`, or `needs = ()` for a metric without a reference',
        )
    return found


def _are_rates(rates: Any) -> bool:
    """Returns whether the `sample_rates` of a metric are numbers, in any collection, or None."""
    return rates is None or (
        isinstance(rates, Collection)
        and not isinstance(rates, str | bytes | Mapping)
        and all(isinstance(rate, Real) for rate in rates)
    )


def sample_rate_error(metric: Metric, sr: int) -> RunError | None:
    """Returns the error for a metric that is not defined for the sample rate of an experiment; None if it is.

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
    """Returns the error for a metric that needs what the files lack; None if they have all that it needs.

    Args:
        metric: the metric.
        available: what the files have besides the signals that are rated, of `clean`, `noisy`, `far_end`, `text`
            and `network`.
    """
    lacking = [f"`{need}`" for need in needs_of(metric) if need not in available]
    if not lacking:
        return None
    if "`network`" in lacking:
        return RunError(
            f"{metric.label} watches the network while it enhances, which only a test can do",
            remedy=f"use `{metric.name}` in the `metrics` of the trainer alone",
        )
    return RunError(
        f"{metric.label} needs {' and '.join(lacking)}, which the files lack",
        remedy=f"give the files {' and '.join(lacking)}, or leave `{metric.name}` out of the metrics",
    )


def direction_error(metric: Metric, save_max_score: bool) -> RunError | None:
    """Returns the error for a score whose direction contradicts `save_max_score`; None if it fits.

    Args:
        metric: the metric whose mean is the score.
        save_max_score: the argument of the trainer: whether a higher score is better.
    """
    if metric.higher_is_better == save_max_score:
        return None
    better = "higher" if metric.higher_is_better else "lower"
    wanted = str(metric.higher_is_better).lower()
    return RunError(
        f"{metric.label} is better when {better}, but with `save_max_score = {str(save_max_score).lower()}` the best "
        "epoch would be the worst",
        remedy=f"set `save_max_score = {wanted}` in [trainer.args], or use another metric as `score`",
    )


def repetition_error(
    metric: Metric, earlier: Sequence[Metric], states: Sequence[str] | Mapping[str, str] = STATES
) -> RunError | None:
    """Returns the error for a metric that records a scalar of an earlier one; None if its scalars are its own."""
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
                remedy="give one of them another `name`: those of a metric `x` are "
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
    """Builds the metrics that a trainer can use, and says why others are left out.

    Args:
        specs: the metrics, as names, tables or objects.
        sr: the sample rate of the experiment, in hertz.
        states: the states of the report that the metrics are for, with the output last. No two metrics may have a
            scalar of the same name.
        wrap: called with each metric; returns the metric that the trainer uses in its place. The scalars are those of
            the metrics that it returns.
        available: what the files have for metrics besides the signals that are rated; see `needs_error`.

    Returns:
        The metrics that the trainer uses, and an error for each one that is left out: its package is missing, it does
        not take the rate, or it needs what the files lack.

    Raises:
        AudioZenError: a metric does not exist or can't be used, or two record a scalar of the same name.
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
    """Yields what `audiozen check` can say about the metrics of a trainer, for its method `check_settings`.

    Args:
        specs: the metrics as they are in the TOML file, or the default of the argument. A value of another form is
            reported when the arguments are bound.
        argument: the name of the argument.
        sr: the sample rate of the experiment, in hertz.
        states: the `states` of `build_metrics`.
        wrap: the `wrap` of `build_metrics`.

    Yields:
        A warning for each metric that `build_metrics` leaves out, and an error for each one that it refuses.
    """
    earlier: list[Metric] = []

    def metric_error(metric: Metric) -> AudioZenError | None:
        if error := sample_rate_error(metric, sr):
            return error
        used = wrap(metric) if wrap else metric
        if repeated := repetition_error(used, earlier, states):
            raise repeated  # an error and not a warning, because no mode would start
        earlier.append(used)
        return None

    for index, spec in enumerate(specs if isinstance(specs, Sequence) else ()):
        if finding := metric_finding(spec, ("args", argument, index), severity="warning", check=metric_error):
            yield finding


def metric_finding(spec: object, place: KeyPath, *, severity: Severity, check: MetricCheck) -> Diagnostic | None:
    """Checks a metric as it is written in a TOML file, for `audiozen check`.

    Args:
        spec: the value in the file. A value of another form is reported when the arguments are bound.
        place: the key path of the value.
        severity: `warning` if the trainer can do without the metric.
        check: says what is wrong with the metric in this experiment.

    Returns:
        What is wrong: its package is missing, it is not a metric, or what `check` says. A name that does not exist is
        reported when the name is resolved.
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
        # The constructor of somebody else's metric fails. The run shows its error with the traceback.
        return None
    return as_finding(error, code, place, severity=severity) if error else None


def as_finding(error: AudioZenError, code: str, place: KeyPath, *, severity: Severity = "error") -> Diagnostic:
    """Returns the error of a run as a finding of `audiozen check`."""
    notes = (f"help: {error.remedy}",) if error.remedy else ()
    return Diagnostic(code, error.message, severity, place=place, notes=notes)
