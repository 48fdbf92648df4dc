"""The scores of systems that are compared with a baseline, and their differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from audiozen_core.errors import RunError
from audiozen_core.results.paired import PairedDifference, SystemMean, file_differences, system_mean
from audiozen_core.results.rated import rated_mean
from audiozen_core.results.records import MetricInfo
from audiozen_core.results.systems import ScoredSystem, complete_files


@dataclass(frozen=True, slots=True)
class FileDifference:
    """The values of one file.

    Attributes:
        id: the ID of the file.
        baseline: the value of the baseline, the mean over its seeds.
        value: the value of the system.
        difference: the system minus the baseline.
    """

    id: str
    baseline: float
    value: float
    difference: float


@dataclass(frozen=True, slots=True)
class SettingRow:
    """A setting that differs between the configurations of the systems.

    Attributes:
        key: its key, such as `optimizer.args.lr`.
        values: by the name of the system, its value as TOML text; "" for a system without a known configuration.
    """

    key: str
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ComparedScores:
    """The scores of systems, compared with a baseline.

    Attributes:
        systems: the systems. The first one is the baseline.
        metrics: the metrics that are compared, in the order of the columns.
        ids: the IDs of the files that all systems have.
        differences: the difference of each system from the baseline in each metric, over all files.
        by: the same for each value of each condition: `by["snr"]["5"]`. The p-values of one condition are corrected for
            all tests of this condition.
        conditions: by the name of a condition and the ID, the value.
        notes: what is remarkable about the scores, in words.
        settings: what differs in the configurations of the runs.
        listeners: of a listening test, the names of the listeners; empty for scores.
    """

    systems: tuple[ScoredSystem, ...]
    metrics: tuple[MetricInfo, ...]
    ids: tuple[str, ...]
    differences: tuple[PairedDifference, ...]
    by: Mapping[str, Mapping[str, tuple[PairedDifference, ...]]] = field(default_factory=dict)
    conditions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    settings: tuple[SettingRow, ...] = ()
    listeners: tuple[str, ...] = ()

    @property
    def baseline(self) -> ScoredSystem:
        """The system that the others are compared with."""
        return self.systems[0]

    def difference(self, metric: str, system: str) -> PairedDifference:
        """Returns the difference of a system from the baseline over all files.

        Raises:
            RunError: the system or the metric is not compared.
        """
        for one in self.differences:
            if (one.metric, one.system) == (metric, system):
                return one
        known = ", ".join(f"`{one.metric}` of `{one.system}`" for one in self.differences)
        raise RunError(f"`{metric}` of `{system}` is not compared", remedy=f"choose one of {known}")

    def mean(
        self, metric: str, system: str, condition: str = "", level: str = "", *, interval: bool = True
    ) -> SystemMean | None:
        """Returns the mean of a system over the files that are compared; None if it lacks the metric.

        Args:
            metric: the name of the metric.
            system: the name of the system.
            condition: the name of a condition; "" for all files.
            level: its value.
            interval: whether the interval is computed, which takes most of the time. Without it, its ends are NaN.
        """
        (found,) = [one for one in self.systems if one.name == system]
        if metric not in found.metrics:
            return None
        ids = self.files_of(metric, condition, level)
        if found.ratings:
            return rated_mean(found.rated(metric, ids), interval=interval)
        return system_mean(found.values(metric, ids), interval=interval)

    def files_of(self, metric: str, condition: str = "", level: str = "") -> list[str]:
        """Returns the IDs of the files that count for a metric: all systems that have the metric have a value."""
        chosen = [name for name in self.ids if not condition or self.conditions[condition].get(name, "") == level]
        return complete_files(metric, self.systems, chosen)

    def files(self, metric: str, system: str) -> list[FileDifference]:
        """Returns the values of all files, from the one for which the system is worst to the one where it is best.

        Args:
            metric: the name of the metric.
            system: the name of a system.
        """
        one = self.difference(metric, system)
        (found,) = [each for each in self.systems if each.name == system]
        ids = self.files_of(metric)
        before, after = self.baseline.values(metric, ids), found.values(metric, ids)
        differences = file_differences(before, after)
        rows = [
            FileDifference(name, float(before_value), float(value), float(difference))
            for name, before_value, value, difference in zip(
                ids, before.mean(axis=0), after.mean(axis=0), differences, strict=True
            )
        ]
        return sorted(rows, key=lambda row: row.difference if one.higher_is_better else -row.difference)
