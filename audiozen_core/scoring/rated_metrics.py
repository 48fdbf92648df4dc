"""Chooses the metrics for the signals that are given, and says which ones are left out and why."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiozen_core.errors import AudioZenError, RunError
from audiozen_core.registry.index import installed_index
from audiozen_core.results.records import MetricInfo
from audiozen_core.scoring.chosen import MetricSpec, build_metric
from audiozen_core.scoring.identity import identity_of
from audiozen_core.scoring.metric import Metric, needs_of

_OPTION = {"clean": "--clean", "noisy": "--noisy", "far_end": "--far-end", "text": "--text"}
"""The option that gives what a metric needs."""


@dataclass(frozen=True, slots=True)
class RatedMetric:
    """A metric that rates files.

    Attributes:
        metric: the metric.
        needs: what it is passed besides the estimate.
        key: stands for the metric and its arguments in the keys of the cache; "" if its scores can't be kept, because
            it holds an object whose content is not known, or its code is in no file.
    """

    metric: Metric
    needs: tuple[str, ...]
    key: str

    @property
    def has_network(self) -> bool:
        """Whether it holds a network, so that its files are rated apart from those of other metrics."""
        return bool(getattr(self.metric, "weights", None))

    def info(self, rates: Iterable[int], resampled: Iterable[int] = ()) -> MetricInfo:
        """Describes the metric for tables and files.

        Args:
            rates: the rates at which it has rated files, in hertz.
            resampled: the rates of files that were resampled for it, in hertz.
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
        """Returns the rate at which it rates signals of a sample rate; None if it can't.

        Args:
            sr: the sample rate, in hertz.
            resample: whether signals may be resampled.
        """
        rates: Collection[int] | None = getattr(self.metric, "sample_rates", None)
        if rates is None or sr in rates:
            return sr
        if not resample:
            return None
        return max((rate for rate in rates if rate < sr), default=min(rates))


def choose_metrics(
    specs: Sequence[MetricSpec] | None, given: Collection[str]
) -> tuple[list[RatedMetric], dict[str, str]]:
    """Builds the metrics.

    Args:
        specs: the metrics; None for all that are installed and need nothing but what is given.
        given: what is given besides the files to rate: `clean`, `noisy`, `far_end`, `text`.

    Returns:
        The metrics, those with a network last; and for each one that is left out, the reason.

    Raises:
        AudioZenError: a metric that was asked for does not exist, needs a package or a signal that is missing, or is
            named twice; or no metric remains.
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
            if lacks := _lacks(metric, given):
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
            left_out[name] = f"{unusable.message}: {unusable.remedy}" if unusable.remedy else unusable.message
        except Exception as broken:  # one broken plugin must not keep all other metrics from being computed
            if specs is not None:
                raise
            left_out[name] = f"{type(broken).__name__}: {broken}"
    if not chosen:
        raise RunError(
            "no metric can be computed from what is given",
            notes=[f"left out: `{name}`: {reason}" for name, reason in left_out.items()],
            remedy="give the clean files with `--clean`, or install the reference-free metrics: "
            "pip install 'audiozen[metrics]'",
        )
    metrics = list(chosen.values())
    return (metrics if specs is not None else sorted(metrics, key=lambda metric: metric.has_network)), left_out


def _lacks(metric: Metric, given: Collection[str]) -> str:
    """Returns what a metric needs and is not given, in words; "" if it has all."""
    lacking = [need for need in needs_of(metric) if need not in given]
    if "network" in lacking:
        return "watches the network while it enhances, which only a test can do"
    options = " and ".join(f"`{_OPTION[need]}`" for need in lacking)
    return f"needs {' and '.join(lacking)}: give it with {options}" if lacking else ""


def _cache_key(metric: Metric) -> str:
    """Returns a text that changes with the metric: with its identity, its code and its arguments."""
    held = {name: _content(value) for name, value in vars(metric).items()}
    # What another object holds is known only if the metric names the files of its network.
    if None in held.values() and not getattr(metric, "weights", None):
        return ""
    code = _code(type(metric))
    return json.dumps([identity_of(metric).digest(), code, held], sort_keys=True) if code else ""


def _code(component: type) -> str:
    """Returns a hash of the code that a value depends on; "" if it is in no file, as at the prompt of Python.

    That is the code in the folders of the class and of the classes that it is derived from, because a metric calls
    functions of other files, and the code that rates, which is in the folder of this file.
    """
    folders = {Path(__file__).parent}
    for one in component.__mro__:
        if one.__module__.partition(".")[0] in (*sys.stdlib_module_names - {"__main__"}, "torch"):
            continue
        file = getattr(sys.modules.get(one.__module__), "__file__", None)
        if not file or not Path(file).is_file():
            return ""
        folders.add(Path(file).parent)
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for folder in folders for path in folder.glob("*.py")):
        digest.update(path.name.encode("utf-8", "surrogateescape") + path.read_bytes())
    return digest.hexdigest()


def _content(value: Any, depth: int = 3) -> list[Any] | None:
    """Returns what a value holds, for JSON; None if that is not known, as for a network."""
    if value is None or isinstance(value, str | int | float | bool):
        return [value]
    held: list[Any] = []
    if isinstance(value, tuple | list):
        held = list(value)
    elif isinstance(value, dict):
        held = [part for pair in value.items() for part in pair]
    elif isinstance(value, Path):
        held = [str(value)]
    elif getattr(value, "__dict__", None):  # such as the PESQ of a composite measure
        held = [type(value).__qualname__, vars(value)]
    else:
        return None
    parts = [_content(part, depth - 1) for part in held] if depth else [None]
    return None if None in parts else [type(value).__name__, *parts]
