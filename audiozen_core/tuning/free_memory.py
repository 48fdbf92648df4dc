"""How much memory this process can still get, from the machine and from its control groups (Linux)."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path("/")


def free_memory(root: Path = _ROOT) -> int | None:
    """Returns the number of bytes that are free: of the machine, or of the tightest control group around this process.

    A container, or a job of Slurm, has a control group. Memory that only caches files counts as free, because the
    system gives it away when it is needed.

    Args:
        root: the folder with `proc` and `sys`; the tests have their own.

    Returns:
        None if the system does not say.
    """
    found = [_of_machine(root), *_of_groups(root)]
    known = [value for value in found if value is not None]
    return max(0, min(known)) if known else None


def _of_machine(root: Path) -> int | None:
    for line in _lines(root / "proc/meminfo"):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


def _of_groups(root: Path) -> list[int | None]:
    """Returns what is free in each control group around this process: its own, and all those that contain it."""
    found: list[int | None] = []
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
        # In a container the path may be that of the host, where nothing is visible but the base.
        folders = [base.joinpath(*parts[:count]) for count in range(len(parts) + 1)]
        found += [_of_group(folder, *names) for folder in folders]
    return found


def _of_group(folder: Path, limit: str, usage: str, cache: str) -> int | None:
    most, used = _number(folder / limit), _number(folder / usage)
    if most is None or used is None:
        return None  # without a limit, `memory.max` is "max"
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
