"""The scores of a baseline and other systems, and the differences between them."""

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
    """The values of a metric for one file.

    Attributes:
        id: the ID of the file.
        baseline: the value of the baseline, averaged over its seeds.
        value: the value of the system, averaged over its seeds.
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
        key: the key of the setting, such as `optimizer.args.lr`.
        values: the value in each system as TOML text, by system name; "" if the configuration is unknown.
    """

    key: str
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ComparedScores:
    """The scores of several systems, compared with a baseline.

    Attributes:
        systems: the systems. The first one is the baseline.
        metrics: the compared metrics, in column order.
        ids: the IDs of the files that all systems have.
        differences: the difference of each system from the baseline in each metric, over all files.
        by: the differences for each value of each condition: `by["snr"]["5"]`. The p-values of a condition are
            corrected for all tests of this condition.
        conditions: the value of each condition for each file: `conditions["snr"][ID]`.
        notes: warnings and remarks for the user, such as files that were left out.
        settings: the settings in which the configurations of the runs differ.
        listeners: the names of the listeners of a listening test; empty when scores are compared.
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
        """The system that all other systems are compared with."""
        return self.systems[0]

    def difference(self, metric: str, system: str) -> PairedDifference:
        """Returns the difference of a system from the baseline over all files.

        Raises:
            RunError: the system or the metric is not compared.
        """
        for difference in self.differences:
            if (difference.metric, difference.system) == (metric, system):
                return difference
        choices = ", ".join(f"`{difference.metric}` of `{difference.system}`" for difference in self.differences)
        raise RunError(f"`{metric}` of `{system}` is not compared", remedy=f"choose one of {choices}")

    def mean(
        self, metric: str, system: str, condition: str = "", level: str = "", *, interval: bool = True
    ) -> SystemMean | None:
        """Returns the mean of a system over the compared files; None if the system lacks the metric.

        Args:
            metric: the name of the metric.
            system: the name of the system.
            condition: the name of a condition; "" for all files.
            level: the value of the condition.
            interval: whether to compute the interval, which takes most of the time. If False, its ends are NaN.
        """
        (scored,) = [candidate for candidate in self.systems if candidate.name == system]
        if metric not in scored.metrics:
            return None
        ids = self.files_of(metric, condition, level)
        if scored.ratings:
            return rated_mean(scored.rated(metric, ids), interval=interval)
        return system_mean(scored.values(metric, ids), interval=interval)

    def files_of(self, metric: str, condition: str = "", level: str = "") -> list[str]:
        """Returns the IDs of the files for which every system that has the metric has a value."""
        chosen = [name for name in self.ids if not condition or self.conditions[condition].get(name, "") == level]
        return complete_files(metric, self.systems, chosen)

    def files(self, metric: str, system: str) -> list[FileDifference]:
        """Returns the values of all files, sorted from the worst to the best difference from the baseline.

        Args:
            metric: the name of the metric.
            system: the name of the system.
        """
        higher_is_better = self.difference(metric, system).higher_is_better
        (scored,) = [candidate for candidate in self.systems if candidate.name == system]
        ids = self.files_of(metric)
        before, after = self.baseline.values(metric, ids), scored.values(metric, ids)
        differences = file_differences(before, after)
        rows = [
            FileDifference(name, float(before_value), float(value), float(difference))
            for name, before_value, value, difference in zip(
                ids, before.mean(axis=0), after.mean(axis=0), differences, strict=True
            )
        ]
        return sorted(rows, key=lambda row: row.difference if higher_is_better else -row.difference)
