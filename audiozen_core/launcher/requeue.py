"""Queues the Slurm job of this process again after a signal has stopped the run. This module does not import torch."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from audiozen_core.errors import AudioZenError, Interrupted, RunError
from audiozen_core.logging import get_logger

_SECONDS = 60
_early: list[Interrupted] = []


def times_queued_again() -> int:
    """Returns how many times the job of this process was queued again.

    Raises:
        RunError: this process is not part of a Slurm job.
    """
    if "SLURM_JOB_ID" not in os.environ:
        raise RunError(
            "`--requeue` queues a Slurm job again, but this process does not run in a Slurm job",
            remedy="leave `--requeue` out, or start the command with `sbatch`",
        )
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


@contextmanager
def queued_again_when_stopped(rank: int) -> Iterator[None]:
    """Queues the job again if SIGTERM stops the run within the block, even before the run has started.

    Raises:
        Interrupted: SIGTERM stopped the run. Only rank 0 raises this error; the other ranks leave the block without it.
        RunError: the job can't be queued again.
    """
    _early.clear()
    signal.signal(signal.SIGTERM, _stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    try:
        yield
        # The run is complete. If Slurm sends its warning signal while the process exits, the job must not count as
        # failed.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except BaseException as error:
        # A signal that came before the run started may have interrupted code that wraps every exception in its own
        # error.
        stop = error if isinstance(error, Interrupted) else next(iter(_early), None)
        failure = _failure(stop)
        if failure or stop is None or stop.number != signal.SIGTERM:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # another signal must not prevent the output of the error
            if failure is None:
                raise
            raise failure from failure.__cause__
        if rank == 0:
            _queue_again()
            raise stop from None
        # The ranks other than 0 end without an error. Otherwise `srun --kill-on-bad-exit` would end rank 0 while it
        # saves.


def _failure(stop: Interrupted | None) -> AudioZenError | None:
    """Returns the error that was already ending the run when the signal came; None if no error was ending it.

    If a process fails, `srun --kill-on-bad-exit` sends SIGTERM to the other processes, which may already be ending with
    an error about the failed process. If such a job were queued again, the failure would repeat forever.
    """
    error: BaseException | None = stop
    while isinstance(error, Interrupted):
        error = error.__context__
    return error if isinstance(error, AudioZenError) else None


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    _early.append(Interrupted(number, "the run has not started, so there was nothing to save"))
    raise _early[0]


def _queue_again() -> None:
    """Queues the job of this process again, unless Slurm does that itself or somebody has cancelled the job.

    Slurm sends SIGTERM in three cases: to warn of the time limit or of a pre-emption, to end a pre-empted job (which
    Slurm then queues again itself), and to end a job that somebody has cancelled. The state of the job is RUNNING only
    in the first case.
    """
    # From here on, SIGTERM is ignored: Slurm and `srun` may both send it, and Slurm sends it once more when the job is
    # queued again.
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
        output = getattr(error, "stderr", None) or str(error)
        raise RunError(
            f"the job can't be queued again: `{' '.join(command)}` failed",
            notes=[f"{command[0]}: {output.strip()}"],
            remedy="everything is saved: submit the run again with `--resume`",
        ) from error
    return done.stdout.strip()
