"""Prints the output of Slurm jobs until they end. This module does not import torch."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from audiozen_core.errors import RunError
from audiozen_core.logging import get_logger

_ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
    *("REVOKED", "TIMEOUT"),
}
_SECONDS_BETWEEN_LINES = 0.5
# `squeue` is not called more often, because each call loads the Slurm daemon, which serves the whole cluster.
_SECONDS_BETWEEN_QUERIES = 5.0


def follow(logs: Mapping[str, Path]) -> int:
    """Prints the output of jobs as they write it. If a job is queued again, its further output is printed too.

    Args:
        logs: the output file of each job, by job ID.

    Returns:
        0 if all jobs succeeded; otherwise the exit code of the first job that failed, or 1 if that job was cancelled or
        ended by Slurm.

    Raises:
        RunError: `squeue` does not know the jobs.
    """
    tails = {job: _Tail(path, f"{job} | " if len(logs) > 1 else "") for job, path in logs.items()}
    states: dict[str, _State] = {}
    while True:
        before, states = states, states | _states(list(logs))
        for job, state in states.items():
            if job not in before or (state.name, state.reason) != (before[job].name, before[job].reason):
                get_logger().info("the job has a new state", job=job, state=state.name, reason=state.reason)
        ended = all(job in states and states[job].name in _ENDED for job in logs)
        queried = time.monotonic()
        while True:
            for tail in tails.values():
                tail.print_new(whole=ended)
            if ended or time.monotonic() > queried + _SECONDS_BETWEEN_QUERIES:
                break
            time.sleep(_SECONDS_BETWEEN_LINES)
        if ended:
            break
    return next((states[job].exit_code for job in logs if states[job].exit_code), 0)


class _State(NamedTuple):
    """A job's state, the wait status of its script (as from `os.wait`), and why the job is waiting or has ended."""

    name: str
    status: int
    reason: str = ""

    @property
    def exit_code(self) -> int:
        """The exit code of a job that has ended."""
        if self.name == "COMPLETED":
            return 0
        # The upper byte is the exit code. The lower byte is the signal that ended the script.
        return self.status >> 8 or (128 + self.status if self.status else 1)


def _states(jobs: list[str]) -> dict[str, _State]:
    """Returns the state of each job that Slurm still knows."""
    columns = "JobArrayID:40,State:20,exit_code:20,Reason:80"
    job_ids = ",".join(sorted({job.partition("_")[0] for job in jobs}))
    command = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={job_ids}", f"--Format={columns}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "Invalid job id" in done.stderr:
        raise RunError(
            "`squeue` does not know the job, so how it ended is unknown",
            remedy="run `sacct` to see how the job ended, if the cluster records that",
        )
    rows = (line.split(maxsplit=3) for line in done.stdout.splitlines())  # empty while Slurm's daemon restarts
    return {job: _State(name, int(status), reason.strip()) for job, name, status, reason in rows if job in jobs}


class _Tail:
    """Prints the new lines of a file."""

    def __init__(self, path: Path, prefix: str) -> None:
        self.path = path
        self.prefix = prefix
        self.position = 0

    def print_new(self, *, whole: bool) -> None:
        """Prints the lines that were added since the last call. With `whole`, also prints an incomplete last line."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.position)
                new = file.read()
        except FileNotFoundError:  # the job has not started yet
            return
        if not whole:
            new = new[: new.rfind(b"\n") + 1]
        self.position += len(new)
        for line in new.decode(errors="replace").splitlines():
            sys.stdout.write(f"{self.prefix}{line}\n")
        sys.stdout.flush()
