"""The section `[launcher]`. This module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass

from audiozen_core.binding.ranges import Positive
from audiozen_core.binding.settings import setting
from audiozen_core.errors import RunError


@dataclass(frozen=True, slots=True)
class Launcher:
    """The section `[launcher]`: the resources that `audiozen run --launcher slurm` requests from the cluster."""

    partition: str | None = setting(
        "the partition, or several partitions separated by commas; by default the cluster's default partition",
        default=None,
    )
    time: str | None = setting(
        "the time limit, such as `4:00:00` or `2-12:00:00` (days-hours); by default the partition's time limit",
        pattern=r"(\d+-)?\d+(:\d\d){0,2}",
        default=None,
    )
    nodes: Positive = setting("the number of machines", default=1)
    tasks_per_node: Positive | None = setting(
        "the number of processes on each machine; by default `gpus_per_node` if it is set, otherwise 1", default=None
    )
    gpus_per_node: Positive | None = setting("the number of GPUs on each machine", default=None)
    cpus_per_task: Positive | None = setting(
        "the number of CPU cores for each process, including its data workers", default=None
    )
    mem: str | None = setting("the memory on each machine, such as `64G`", pattern=r"\d+[KMGT]?", default=None)
    account: str | None = setting("the account that pays for the job", default=None)
    stop_before_limit: Positive = setting(
        "the run saves, stops and is queued again this many seconds before the time limit", default=120
    )
    parallel: Positive | None = setting(
        "the most jobs of an array that run at the same time; by default all", default=None
    )
    setup: list[str] = setting("shell commands before the run, such as `module load cuda`", default_factory=list)
    sbatch: dict[str, str | int | float | bool] = setting(
        "further options of `sbatch`, without leading dashes, such as `constraint` and `qos`", default_factory=dict
    )

    @property
    def processes_per_node(self) -> int:
        """The number of processes on each machine."""
        return self.tasks_per_node or self.gpus_per_node or 1


# AudioZEN sets these options of `sbatch` itself, because it needs them to print the output of jobs, to stop jobs and to
# queue jobs again.
_OURS = ("array", "error", "no-requeue", "open-mode", "output", "requeue", "signal")


def check_launcher(settings: Launcher) -> None:
    """Checks conditions that the types of the settings can't express.

    Raises:
        RunError: the time limit is not longer than `stop_before_limit`, a value in `sbatch` is not a string, a number
            or a boolean, or `sbatch` has an option that AudioZEN sets.
    """
    if settings.time is not None and (limit := _seconds(settings.time)) <= settings.stop_before_limit:
        raise RunError(
            f"`time` of [launcher] is {settings.time} ({limit} seconds), but `stop_before_limit` stops the run "
            f"{settings.stop_before_limit} seconds before this limit, which leaves no time to train",
            remedy="set a longer `time` or a smaller `stop_before_limit`",
        )
    for name, value in settings.sbatch.items():
        if not isinstance(value, str | int | float):
            raise RunError(
                f"`{name}` of [launcher.sbatch] is not a string, a number or a boolean",
                remedy="write the value as on the command line of `sbatch`",
            )
    options = {name.replace("_", "-") for name in settings.sbatch}
    if taken := sorted(options.intersection(_OURS)):
        raise RunError(
            f"[launcher.sbatch] can't have {', '.join(f'`{name}`' for name in taken)}, because AudioZEN sets "
            f"{'it' if len(taken) == 1 else 'them'}",
            remedy=f"leave {'it' if len(taken) == 1 else 'them'} out, or write your own sbatch file (docs/slurm.md)",
        )


def _seconds(time: str) -> int:
    """Converts a time limit in one of Slurm's formats to seconds.

    >>> [_seconds(text) for text in ("90", "90:30", "4:00:00", "1-12", "1-12:30", "2-00:00:05")]
    [5400, 5430, 14400, 129600, 131400, 172805]
    """
    days, dash, rest = time.rpartition("-")
    numbers = [int(number) for number in rest.split(":")]
    if dash or len(numbers) == 3:  # the first number is the number of hours
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    else:
        hours, (minutes, seconds) = 0, (*numbers, 0)[:2]
    return int(days or 0) * 86_400 + hours * 3600 + minutes * 60 + seconds
