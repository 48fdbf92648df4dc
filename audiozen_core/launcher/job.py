"""What each task of a submitted job starts. This module does not import torch."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence


def start_run(arguments: Sequence[str]) -> None:
    """Replaces this process by `audiozen` with these arguments.

    So signals reach the run alone, its exit code is that of the task, and `submitit` neither saves nor restores
    anything: the state of a run is only in its checkpoints.
    """
    if "SLURM_CPUS_PER_TASK" in os.environ:
        # Torch would start a thread for each core of the machine, also if the other cores belong to other tasks.
        os.environ.setdefault("OMP_NUM_THREADS", os.environ["SLURM_CPUS_PER_TASK"])
    command = [sys.executable, "-c", "from audiozen_core.cli.main import main; main()", *arguments]
    if "--requeue" in arguments:
        # A SIGTERM that arrives before the run can handle it waits until then.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)
