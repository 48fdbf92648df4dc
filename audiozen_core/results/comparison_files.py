"""The JSON and CSV files of a comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audiozen_core.results.compared import ComparedScores
from audiozen_core.results.files import finite_or_none, write_json, write_table
from audiozen_core.results.intervals import LEVEL, RESAMPLES
from audiozen_core.results.paired import PairedDifference
from audiozen_core.results.permutation import DRAWS
from audiozen_core.results.result_folders import KIND

_FIELDS = (
    "difference", "low", "high", "improvement", "p", "p_holm", "smallest_p", "exact", "permutations", "files", "better",
    "worse", "equal", "verdict",
)  # fmt: skip


def content_of(comparison: ComparedScores) -> dict[str, Any]:
    """Returns the content of `comparison.json`: see docs/compare.md."""
    return {
        KIND: "comparison",
        "baseline": comparison.baseline.name,
        "systems": {
            system.name: {"runs": len(system.runs), "sources": list(system.sources)} for system in comparison.systems
        },
        "files": len(comparison.ids),
        **({"listeners": list(comparison.listeners)} if comparison.listeners else {}),
        "metrics": {
            metric.name: {
                **metric.identity,
                "label": metric.label or metric.name,
                "unit": metric.unit,
                "higher_is_better": metric.higher_is_better,
                "described": metric.described,
            }
            for metric in comparison.metrics
        },
        "method": {
            "interval": {"level": LEVEL, "resamples": RESAMPLES},
            "test": "paired sign-flip permutation test of the mean, two-sided"
            + ", over files and over listeners: the larger p" * (len(comparison.listeners) > 1),
            "random_sign_flips": DRAWS,
            "correction": "Holm",
            "tests": sum(math.isfinite(difference.p) for difference in comparison.differences),
        },
        "means": _means(comparison),
        "differences": [difference.to_json() for difference in comparison.differences],
        **{
            f"by_{condition}": [
                {
                    condition: level or None,
                    "means": _means(comparison, condition, level),
                    "differences": [difference.to_json() for difference in differences],
                }
                for level, differences in levels.items()
            ]
            for condition, levels in comparison.by.items()
        },
        "settings": {row.key: dict(row.values) for row in comparison.settings},
        "notes": list(comparison.notes),
    }


def write_values(comparison: ComparedScores, folder: Path) -> list[Path]:
    """Writes `comparison.json`, `differences.csv` and `files.csv`, each completely or not at all.

    Raises:
        OSError: a file can't be written. An existing file with this name stays unchanged.
    """
    sections = [("", "", comparison.differences)]
    sections += [
        (condition, level, differences)
        for condition, levels in comparison.by.items()
        for level, differences in levels.items()
    ]
    return [
        write_json(folder / "comparison.json", content_of(comparison)),
        write_table(
            folder / "differences.csv",
            ["condition", "value", "metric", "system", *_FIELDS],
            (
                [condition, level, difference.metric, difference.system, *_cells(difference)]
                for condition, level, differences in sections
                for difference in differences
            ),
        ),
        write_table(folder / "files.csv", *_files(comparison)),
    ]


def _means(comparison: ComparedScores, condition: str = "", level: str = "") -> dict[str, dict[str, Any]]:
    means: dict[str, dict[str, Any]] = {}
    for system in comparison.systems:
        means[system.name] = {}
        for metric in comparison.metrics:
            mean = comparison.mean(metric.name, system.name, condition, level)
            if mean is not None:
                means[system.name][metric.name] = {
                    "mean": finite_or_none(mean.mean),
                    "low": finite_or_none(mean.low),
                    "high": finite_or_none(mean.high),
                    "seeds": mean.seeds,
                    "deviation": finite_or_none(mean.deviation),
                }
    return means


def _cells(difference: PairedDifference) -> list[str | float]:
    content: Mapping[str, Any] = difference.to_json()
    return ["" if content[name] is None else _cell(content[name]) for name in _FIELDS]


def _cell(value: Any) -> str | float:
    return str(value).lower() if isinstance(value, bool) else value


def _files(comparison: ComparedScores) -> tuple[list[str], list[list[str | float]]]:
    """Returns the header and the rows of `files.csv`: for each file, its conditions and the values of all systems."""
    header = ["id", *comparison.conditions]
    columns: list[Mapping[str, float]] = []
    for metric in comparison.metrics:
        for system in comparison.systems:
            if metric.name in system.metrics:
                header.append(f"{metric.name}:{system.name}")
                values = system.values(metric.name, comparison.ids).mean(axis=0)
                columns.append(dict(zip(comparison.ids, map(float, values), strict=True)))
    rows: list[list[str | float]] = [
        [
            name,
            *(value_of_file.get(name, "") for value_of_file in comparison.conditions.values()),
            *(column[name] for column in columns),
        ]
        for name in comparison.ids
    ]
    return header, rows
