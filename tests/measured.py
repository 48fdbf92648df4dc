"""What a record has that two equal runs differ in: when it was made, how long things took, and how much memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def without_measured(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a record of `metrics.jsonl` without the time and without the scalars of the hook `resources`."""
    return {name: value for name, value in record.items() if name != "time" and not _is_measured(name)}


def _is_measured(name: str) -> bool:
    last = name.rpartition("/")[2]
    return last.startswith(("seconds_", "gpu_seconds_")) or last.endswith("gib")
