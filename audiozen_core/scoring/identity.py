"""What defines the values of a metric: its code, its packages, its weights and its settings."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from audiozen_core.registry.index import installed_index
from audiozen_core.registry.provided_modules import providers
from audiozen_core.registry.scope import installed_path
from audiozen_core.scoring.metric import Metric
from audiozen_core.scoring.of_torchmetrics import OfTorchmetrics
from audiozen_core.scoring.over_speakers import MeanOverSpeakers

# A line for people names so many files of weights. The files have all of them.
_MOST_WEIGHTS = 2


@dataclass(frozen=True, slots=True)
class MetricIdentity:
    """What defines the values of a metric. Values of different identities should not be compared.

    Attributes:
        name: the name of the metric.
        label: its name in tables.
        unit: `dB`, or "" if it has no unit.
        higher_is_better: whether a higher number is better.
        path: the class, such as `audiozen_plugins.metric.pesq.Pesq`.
        packages: the versions of the distributions that have the class, and of those that it names in `packages`.
        code: the SHA-256 of the file of the class, if no distribution has it; otherwise "".
        weights: the SHA-256 of each file of a network, by its name.
        settings: the arguments of the constructor.
        rate: the sample rate at which it is computed, in hertz; None if it is not known.
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
        """Returns a hash of everything that defines the values, 32 hexadecimal digits, for the name of a cache."""
        text = json.dumps(self.to_json(), sort_keys=True, default=repr)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def line(self) -> str:
        """Returns one short line for people, such as `PESQ WB: mode = wb; audiozen 0.1.0, pesq 0.0.4; 16000 Hz`."""
        settings = ", ".join(f"{key} = {_shown(value)}" for key, value in self.settings.items())
        packages = [f"{package} {version}" for package, version in self.packages.items()]
        packages += [f"code {self.code[:8]}"] * bool(self.code)
        weights = ", ".join(f"{file} {digest[:8]}" for file, digest in self.weights.items())
        if len(self.weights) > _MOST_WEIGHTS:
            together = hashlib.sha256(json.dumps(dict(self.weights), sort_keys=True).encode()).hexdigest()
            weights = f"{len(self.weights)} files of weights {together[:8]}"
        rate = f"{self.rate} Hz" if self.rate else ""
        parts = [part for part in (settings, ", ".join(packages), weights, rate) if part]
        return f"{self.label}: {'; '.join(parts)}"


def identity_of(metric: Metric, sr: int | None = None) -> MetricIdentity:
    """Returns the identity of a metric. No package of the metric is imported for it.

    Four optional attributes of a metric tell what can't be seen otherwise:

    - `packages`: the distributions besides its own whose code defines the values, such as `("pesq",)`.
    - `weights`: the paths of the files of its networks.
    - `settings`: a dict of what its constructor was given. Without it, these are the attributes that have the names of
      the arguments of the constructor and plain values.
    - `same_as`, of the class itself: the class whose values these are, for one that is only a name for some arguments.

    A metric that resamples has its rate in hertz as the attribute `computed_at`.

    Args:
        metric: the metric.
        sr: the sample rate of the files, in hertz.
    """
    speakers = isinstance(metric, MeanOverSpeakers)
    own: Any = metric.metric if isinstance(metric, MeanOverSpeakers) else metric
    # Not that of a base class: a class that is derived from a name may compute something else.
    kind = vars(type(own)).get("same_as", type(own))
    component = type(own.metric) if isinstance(own, OfTorchmetrics) else kind
    distributions = _distributions(component.__module__.partition(".")[0])
    versions = [(name, _version(name)) for name in dict.fromkeys((*distributions, *getattr(own, "packages", ())))]
    return MetricIdentity(
        metric.name,
        metric.label,
        metric.unit,
        metric.higher_is_better,
        f"{component.__module__}.{component.__qualname__}",
        packages=dict(versions),
        code="" if distributions else _code(component),
        weights={Path(path).name: _digest(Path(path)) for path in getattr(own, "weights", ())},
        settings=dict(_settings(own, kind)),
        rate=getattr(own, "computed_at", None) or sr,
        mean_over_speakers=speakers,
    )


def identities(metrics: Iterable[Metric], sr: int | None = None) -> dict[str, dict[str, Any]]:
    """Returns the identities of metrics for a JSON file, by their names."""
    return {metric.name: identity_of(metric, sr).to_json() for metric in metrics}


def _settings(metric: Any, kind: type) -> Mapping[str, Any]:
    if isinstance(given := getattr(metric, "settings", None), Mapping):
        return given
    try:
        names: Sequence[str] = list(inspect.signature(kind).parameters)
    except (TypeError, ValueError):  # a class without a signature, such as one of an extension module
        return {}
    held = vars(metric) if hasattr(metric, "__dict__") else {}
    return {
        name: held[name]
        for name in names
        if name in held and (held[name] is None or isinstance(held[name], str | int | float | bool))
    }


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@functools.cache
def _distributions(module: str) -> tuple[str, ...]:
    """Returns the distributions that have a top-level module."""
    # The entry points tell it for plugins, also for those that are installed in editable mode.
    entries = installed_index().entries()
    found = {entry.distribution for entry in entries if entry.value.partition(":")[0].partition(".")[0] == module}
    if found:
        return tuple(sorted(found))
    # This reads thousands of file names, so it is the last resort.
    return tuple(providers([module], installed_path()))


@functools.cache
def _version(distribution: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _code(component: type) -> str:
    file = getattr(sys.modules.get(component.__module__), "__file__", None)
    return _digest(Path(file)) if file and Path(file).is_file() else ""


def _digest(path: Path) -> str:
    state = path.stat()
    return _digest_of(path, state.st_size, state.st_mtime_ns)


@functools.cache
def _digest_of(path: Path, size: int, changed: int) -> str:
    """Computes the hash of a file. It is kept for as long as the file has this size and this time of change."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
