"""How many CPUs a process may use."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_CONTROL_GROUPS = Path("/sys/fs/cgroup")


def usable_cpus() -> int:
    """Returns how many CPUs this process may use, which a CPU affinity or the quota of a container may limit."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return cpus if quota is None else max(1, min(cpus, int(quota)))


def _quota() -> float | None:
    """Returns how many seconds of CPU time the processes of a container may use per second; None for no limit."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # control groups version 2 and 1
        with suppress(OSError, ValueError):
            # "200000 100000" means two CPUs; "max 100000" or a quota of -1 means no limit.
            quota, period = " ".join((_CONTROL_GROUPS / file).read_text() for file in files).split()
            return float(quota) / float(period) if quota != "max" and float(quota) > 0 else None
    return None
