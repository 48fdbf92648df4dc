"""The identity of a metric: everything that determines its values, such as code, packages, weights and settings."""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from audiozen_core.binding.signature import signature_of
from audiozen_core.registry.provided_modules import distributions_with, version_of
from audiozen_core.scoring.metric import Metric
from audiozen_core.scoring.over_speakers import MeanOverSpeakers
from audiozen_core.scoring.torchmetrics_adapter import TorchmetricsAdapter

# `MetricIdentity.line` names at most this many weight files. The JSON files name all of them.
_MOST_WEIGHTS = 2


@dataclass(frozen=True, slots=True)
class MetricIdentity:
    """Everything that determines the values of a metric. Values with different identities should not be compared.

    Attributes:
        name: the name of the metric.
        label: the name of the metric in tables.
        unit: `dB`, or "" if the metric has no unit.
        higher_is_better: whether a higher number is better.
        path: the class, such as `audiozen_plugins.metric.pesq.Pesq`.
        packages: the versions of the distributions that contain the class, and of the distributions that the metric
            names in `packages`.
        code: the SHA-256 of the source file of the class if no distribution contains it; otherwise "".
        weights: the SHA-256 of each weight file, by file name.
        settings: the arguments of the constructor.
        rate: the sample rate at which the metric is computed, in hertz; None if it is unknown.
        mean_over_speakers: whether a value is the mean over the speakers of a file.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool
    path: str
    packages: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    weights: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    rate: int | None = None
    mean_over_speakers: bool = False

    def to_json(self) -> dict[str, Any]:
        """Returns the attributes as a dict for `json.dumps`."""
        return asdict(self)

    def digest(self) -> str:
        """Returns a hash of the identity for a cache key: 32 hexadecimal digits."""
        text = json.dumps(self.to_json(), sort_keys=True, default=repr)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def line(self) -> str:
        """Returns a short line to display, such as `PESQ WB: mode = wb; audiozen 0.1.0, pesq 0.0.4; 16000 Hz`."""
        settings = ", ".join(f"{key} = {_shown(value)}" for key, value in self.settings.items())
        packages = [f"{package} {version}" for package, version in self.packages.items()]
        packages += [f"code {self.code[:8]}"] * bool(self.code)
        weights = ", ".join(f"{file} {digest[:8]}" for file, digest in self.weights.items())
        if len(self.weights) > _MOST_WEIGHTS:
            together = hashlib.sha256(json.dumps(dict(self.weights), sort_keys=True).encode()).hexdigest()
            weights = f"{len(self.weights)} weight files {together[:8]}"
        rate = f"{self.rate} Hz" if self.rate else ""
        parts = [part for part in (settings, ", ".join(packages), weights, rate) if part]
        return f"{self.label}: {'; '.join(parts)}"


def identity_of(metric: Metric, sr: int | None = None) -> MetricIdentity:
    """Returns the identity of a metric without importing the metric's packages.

    A metric can describe its identity in optional attributes:

    - `packages`: other distributions whose code affects the values, such as `("pesq",)`.
    - `weights`: the paths of the metric's weight files.
    - `settings`: a dict of the arguments of the metric's constructor. By default, the settings are all attributes that
      have the name of an argument and a string, a number, a boolean or None as their value.
    - `same_as`, an attribute of the class: another class that computes the same values. It is meant for a class that is
      only a shortcut for certain arguments of the other class.
    - `computed_at`: the sample rate in hertz to which the metric resamples its input.

    Args:
        metric: the metric.
        sr: the sample rate of the files, in hertz.
    """
    speakers = isinstance(metric, MeanOverSpeakers)
    inner: Any = metric.metric if isinstance(metric, MeanOverSpeakers) else metric
    # `same_as` is not inherited, because a derived class may compute something else.
    rating_class = vars(type(inner)).get("same_as", type(inner))
    component = type(inner.metric) if isinstance(inner, TorchmetricsAdapter) else rating_class
    distributions = distributions_with(component.__module__.partition(".")[0])
    versions = [(name, version_of(name)) for name in dict.fromkeys((*distributions, *getattr(inner, "packages", ())))]
    return MetricIdentity(
        metric.name,
        metric.label,
        metric.unit,
        metric.higher_is_better,
        f"{component.__module__}.{component.__qualname__}",
        packages=dict(versions),
        code="" if distributions else _code(component),
        weights={Path(path).name: _digest(Path(path)) for path in getattr(inner, "weights", ())},
        settings=dict(_settings(inner, rating_class)),
        rate=getattr(inner, "computed_at", None) or sr,
        mean_over_speakers=speakers,
    )


def identities(metrics: Iterable[Metric], sr: int | None = None) -> dict[str, dict[str, Any]]:
    """Returns the identities of metrics for a JSON file, by the name of the metric."""
    return {metric.name: identity_of(metric, sr).to_json() for metric in metrics}


def _settings(metric: Any, rating_class: type) -> Mapping[str, Any]:
    if isinstance(declared := getattr(metric, "settings", None), Mapping):
        return declared
    signature = signature_of(rating_class)  # None for some classes, such as those of extension modules
    names = [parameter.name for parameter in signature.parameters] if signature else []
    attributes = vars(metric) if hasattr(metric, "__dict__") else {}
    return {
        name: attributes[name]
        for name in names
        if name in attributes and (attributes[name] is None or isinstance(attributes[name], str | int | float | bool))
    }


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _code(component: type) -> str:
    file = getattr(sys.modules.get(component.__module__), "__file__", None)
    return _digest(Path(file)) if file and Path(file).is_file() else ""


def _digest(path: Path) -> str:
    state = path.stat()
    return _digest_of(path, state.st_size, state.st_mtime_ns)


@functools.cache
def _digest_of(path: Path, size: int, changed: int) -> str:
    """Computes the SHA-256 of a file. The result is cached until the size or the modification time changes."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
