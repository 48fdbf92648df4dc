"""Chooses the metrics whose inputs are available, and explains why other metrics are left out."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiozen_core.errors import AudioZenError, BuildError, RunError, exception_text
from audiozen_core.registry.code_hash import code_hash, module_names
from audiozen_core.registry.index import installed_index
from audiozen_core.results.records import MetricInfo
from audiozen_core.scoring.chosen import MetricSpec, build_metric
from audiozen_core.scoring.identity import identity_of
from audiozen_core.scoring.metric import Metric, needs_of

_OPTION = {"clean": "--clean", "noisy": "--noisy", "far_end": "--far-end", "text": "--text"}
"""The command-line option for each need of a metric."""


@dataclass(frozen=True, slots=True)
class RatedMetric:
    """A metric that rates files.

    Attributes:
        metric: the metric.
        needs: what the metric needs besides the estimate.
        key: identifies the metric and its arguments in cache keys; "" if scores can't be cached, because the metric
            holds an object with unknown content or because the code of the metric is not in a file.
    """

    metric: Metric
    needs: tuple[str, ...]
    key: str

    @property
    def has_network(self) -> bool:
        """Whether the metric holds a network. Such a metric rates the files in a pass of its own."""
        return bool(getattr(self.metric, "weights", None))

    def info(self, rates: Iterable[int], resampled: Iterable[int] = ()) -> MetricInfo:
        """Describes the metric for tables and files.

        Args:
            rates: the sample rates at which the metric has rated files, in hertz.
            resampled: the sample rates of files that were resampled for the metric, in hertz.
        """
        rates, resampled = sorted(rates), sorted(resampled)
        identity = identity_of(self.metric, rates[0] if len(rates) == 1 else None)
        several = f"; {' and '.join(map(str, rates))} Hz" if len(rates) > 1 else ""
        if resampled:
            several += f", files of {' and '.join(map(str, resampled))} Hz were resampled"
        return MetricInfo(
            identity.name,
            identity.label,
            identity.unit,
            identity.higher_is_better,
            f"{identity.line()}{several}",
            {**identity.to_json(), "rates": rates, "resampled": resampled},
        )

    def rate(self, sr: int, *, resample: bool) -> int | None:
        """Returns the sample rate at which the metric rates a signal; None if it can't rate the signal.

        Args:
            sr: the sample rate of the signal, in hertz.
            resample: whether the signal may be resampled.
        """
        rates: Collection[int] | None = getattr(self.metric, "sample_rates", None)
        if rates is None or sr in rates:
            return sr
        if not resample:
            return None
        return max((rate for rate in rates if rate < sr), default=min(rates))


def choose_metrics(
    specs: Sequence[MetricSpec] | None, available: Collection[str]
) -> tuple[list[RatedMetric], dict[str, str]]:
    """Builds the metrics for an evaluation.

    Args:
        specs: the metrics; None for all installed metrics that need nothing except what is available.
        available: the inputs that are available besides the files to rate: some of `clean`, `noisy`, `far_end` and
            `text`.

    Returns:
        The metrics, and the reason for each metric that is left out. If `specs` is None, metrics with a network come
        last.

    Raises:
        AudioZenError: a metric in `specs` does not exist, needs a missing package or input, or is listed twice; or no
            metric remains.
    """
    chosen: dict[str, RatedMetric] = {}
    left_out: dict[str, str] = {}
    if specs is None:
        wanted: list[tuple[str, MetricSpec]] = [
            (entry.name, entry.spelling) for entry in installed_index().entries("metric")
        ]
    else:
        wanted = [(str(spec), spec) for spec in specs]
    for name, spec in wanted:
        try:
            metric = build_metric(spec)
            if lacks := _lacks(metric, available):
                if specs is not None:
                    raise RunError(f"the metric `{metric.name}` {lacks}", remedy="or leave the metric out")
                left_out[name] = lacks
                continue
            if metric.name in chosen:
                raise RunError(f"the metric `{metric.name}` is listed twice", remedy="list each metric once")
            chosen[metric.name] = RatedMetric(metric, needs_of(metric), _cache_key(metric))
        except AudioZenError as unusable:
            if specs is not None:
                raise
            # If a metric can't be built, the remedy is an option that shows the traceback of the error that is raised.
            has_remedy = unusable.remedy and not isinstance(unusable, BuildError)
            left_out[name] = f"{unusable.message}: {unusable.remedy}" if has_remedy else unusable.message
        except Exception as broken:  # a broken plugin must not prevent the use of the other metrics
            if specs is not None:
                raise
            left_out[name] = exception_text(broken)
    if not chosen:
        raise RunError(
            "no metric can be computed from the given files",
            notes=[f"left out: `{name}`: {reason}" for name, reason in left_out.items()],
            remedy="give the clean files with `--clean`, or install the package of a metric that needs no clean files",
        )
    metrics = list(chosen.values())
    return (metrics if specs is not None else sorted(metrics, key=lambda metric: metric.has_network)), left_out


def _lacks(metric: Metric, available: Collection[str]) -> str:
    """Returns a phrase about the missing inputs of a metric; "" if no input is missing."""
    lacking = [need for need in needs_of(metric) if need not in available]
    if "network" in lacking:
        return "watches the network while it enhances, which only a test can do"
    options = " and ".join(f"`{_OPTION[need]}`" for need in lacking)
    return f"needs {' and '.join(lacking)}: give it with {options}" if lacking else ""


def _cache_key(metric: Metric) -> str:
    """Returns a string that depends on the identity, the code and the arguments of a metric; see `RatedMetric.key`."""
    attributes = {name: _content(value) for name, value in vars(metric).items()}
    # An attribute with unknown content is accepted only if the metric names its weight files.
    if None in attributes.values() and not getattr(metric, "weights", None):
        return ""
    code = _code(type(metric))
    return json.dumps([identity_of(metric).digest(), code, attributes], sort_keys=True) if code else ""


def _code(component: type) -> str:
    """Returns a hash of the code that values depend on; "" if a class is not in a file, as at the Python prompt.

    The hash covers the metric, the code that reads, resamples and rates files, and that seeds metrics, and the version
    of torchaudio, which resamples. The decoder needs no version, because the key of a score has a hash of the samples.
    """
    for name in module_names(component):
        file = getattr(sys.modules.get(name), "__file__", None)
        if not file or not Path(file).is_file():
            return ""
    return code_hash([component], rooms=("audio", "data", "scoring"), packages=("torchaudio",))


def _content(value: Any, depth: int = 3) -> list[Any] | None:
    """Returns the content of a value for JSON; None if the content can't be determined, as for a network."""
    if value is None or isinstance(value, str | int | float | bool):
        return [value]
    parts: list[Any] = []
    if isinstance(value, tuple | list):
        parts = list(value)
    elif isinstance(value, dict):
        parts = [part for pair in value.items() for part in pair]
    elif isinstance(value, Path):
        parts = [str(value)]
    elif getattr(value, "__dict__", None):  # such as the PESQ object inside a composite measure
        parts = [type(value).__qualname__, vars(value)]
    else:
        return None
    contents = [_content(part, depth - 1) for part in parts] if depth else [None]
    return None if None in contents else [type(value).__name__, *contents]
