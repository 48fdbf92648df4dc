"""Starts the run in each task of a Slurm job. This module does not import torch."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence


def start_run(arguments: Sequence[str]) -> None:
    """Replaces this process with the command `audiozen` and these arguments.

    Signals then go directly to the run, and the exit code of the run becomes the exit code of the task. `submitit` does
    not save or restore anything, because the checkpoints contain the complete state of the run.
    """
    if "SLURM_CPUS_PER_TASK" in os.environ:
        # By default, torch starts a thread for each core of the machine, even if some cores are reserved for other
        # tasks.
        os.environ.setdefault("OMP_NUM_THREADS", os.environ["SLURM_CPUS_PER_TASK"])
    command = [sys.executable, "-c", "from audiozen_core.cli.main import main; main()", *arguments]
    if "--requeue" in arguments:
        # SIGTERM stays blocked until the run can handle it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)
