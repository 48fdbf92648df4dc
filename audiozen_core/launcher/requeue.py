"""Queues the job of this process again, after a signal has stopped the run. This module does not import torch."""

from __future__ import annotations

import os
import signal
import subprocess
from types import FrameType
from typing import NoReturn

from audiozen_core.errors import Interrupted, RunError
from audiozen_core.logging import get_logger

_SECONDS = 60
_early: list[Interrupted] = []


def times_queued_again() -> int:
    """Returns how often the job of this process has been queued again.

    Raises:
        RunError: this process is not in a job of Slurm.
    """
    if "SLURM_JOB_ID" not in os.environ:
        raise RunError(
            "`--requeue` queues a job of Slurm again, but this process is not in one",
            remedy="leave it out, or start the command with `sbatch`",
        )
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def stop_on_sigterm() -> None:
    """Lets SIGTERM raise `Interrupted`, until the hook `signals` handles it: so the job is queued again then too."""
    signal.signal(signal.SIGTERM, _stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def stopped_early() -> Interrupted | None:
    """Returns the interruption by a SIGTERM that came before the run; code that it interrupted may have wrapped it."""
    return _early[0] if _early else None


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    _early.append(Interrupted(number, "the run has not started, so there was nothing to save"))
    raise _early[0]


def queue_again() -> None:
    """Queues the job of this process again, unless Slurm does that itself or somebody has cancelled the job.

    Slurm sends SIGTERM when it warns of the time limit or of a pre-emption, when it ends a job that it has pre-empted
    (which it then queues again itself), and when somebody cancels the job. The job is running only in the first case.
    """
    # Slurm and `srun` may both send the signal, and queueing the job again sends it once more.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    job = os.environ["SLURM_JOB_ID"]
    state = _ask("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")
    if state != "RUNNING":
        get_logger().info("Slurm itself is ending the job, so it is not queued again from here", job=job, state=state)
        return
    _ask("scontrol", "requeue", job)
    get_logger().info("the job is queued again, and continues from its checkpoint", job=job)


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise RunError(
            f"the job can't be queued again: `{' '.join(command)}` failed",
            notes=[f"{command[0]}: {said.strip()}"],
            remedy="everything is saved: submit the run again with `--resume`",
        ) from error
    return done.stdout.strip()
