"""Reads how much memory this process can still allocate, given the machine and the control groups of Linux."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path("/")


def free_memory(root: Path = _ROOT) -> int | None:
    """Returns how much memory this process can still allocate, in bytes.

    The result is the smallest of these numbers: the free memory of the machine, and of each control group that contains
    this process. A container or a Slurm job has its own control group. Memory that only caches files counts as free,
    because the system reclaims it when needed.

    Args:
        root: the folder that contains `proc` and `sys`; only tests pass another folder.

    Returns:
        The number of bytes; None if the system does not report free memory.
    """
    amounts = [free for free in (_free_on_machine(root), *_free_in_groups(root)) if free is not None]
    return max(0, min(amounts)) if amounts else None


def _free_on_machine(root: Path) -> int | None:
    for line in _lines(root / "proc/meminfo"):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


def _free_in_groups(root: Path) -> list[int | None]:
    """Returns the free bytes of each control group that contains this process."""
    free: list[int | None] = []
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        parts = [part for part in path.split("/") if part]
        # In a container, the path may be the path on the host. Then only `base` exists in the container.
        folders = [base.joinpath(*parts[:count]) for count in range(len(parts) + 1)]
        free += [_free_in_group(folder, *names) for folder in folders]
    return free


def _free_in_group(folder: Path, limit: str, usage: str, cache: str) -> int | None:
    most, used = _number(folder / limit), _number(folder / usage)
    if most is None or used is None:
        return None  # if the control group has no limit, `memory.max` is "max"
    cached = [line.split()[1] for line in _lines(folder / "memory.stat") if line.startswith(f"{cache} ")]
    return most - used + (int(cached[0]) if cached else 0)


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
