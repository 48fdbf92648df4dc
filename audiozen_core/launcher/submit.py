"""Submits runs to Slurm with the library `submitit`. This module does not import torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiozen_core.errors import MissingExtraError, RunError
from audiozen_core.launcher.job import start_run
from audiozen_core.launcher.settings import Launcher, check_launcher
from audiozen_core.storage.atomic import make_folder

if TYPE_CHECKING:
    from submitit import Job

# Prefixes of environment variables that describe a job or a process group. A submission from within a job must not pass
# these variables to the new job.
_OF_A_JOB = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_", "TORCHELASTIC_")
_OF_A_RANK = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_OF_THE_CLUSTER = "SLURM_CONF"

_SECONDS = 10


def submit(
    runs: Sequence[Sequence[str]], name: str, folder: Path, settings: Launcher, *, cluster: str = "slurm"
) -> list[Job[None]]:
    """Submits a job for each run; several runs become one job array.

    Args:
        runs: the arguments of `audiozen` for each run.
        name: the name of the job.
        folder: the folder for the output of the jobs. All machines of the cluster must have access to it.
        settings: the resources that the jobs request.
        cluster: `slurm`, or `local` to start the jobs on this machine without Slurm.

    Returns:
        The jobs, in the order of `runs`. A job has the attributes `job_id` and `paths.stdout`, the file with the output
        of the job.

    Raises:
        MissingExtraError: `submitit` is not installed.
        RunError: the settings contradict each other, or Slurm is not installed, does not answer, or refuses the job.
    """
    check_launcher(settings)
    try:
        import submitit
        from submitit.core.utils import FailedJobError
    except ImportError as error:
        raise MissingExtraError("submitit", extra="slurm", needed_by="`--launcher slurm`") from error
    if cluster == "slurm":
        _check_slurm()
    created = [each for each in (folder, *folder.parents) if not each.exists()]
    make_folder(folder)
    before = set(folder.iterdir())
    try:
        executor = submitit.LocalExecutor(folder) if cluster == "local" else submitit.SlurmExecutor(folder)
        executor.update_parameters(stderr_to_stdout=True)
        if cluster == "slurm":
            executor.update_parameters(**_parameters(name, settings))
        # Standard error is discarded, because submitit prints the errors of sbatch there, which the `RunError` below
        # contains too.
        with _environment_without_job(), redirect_stderr(StringIO()):
            jobs: list[Job[None]] = executor.map_array(start_run, runs)
    except FailedJobError as error:
        for path in set(folder.iterdir()) - before:
            path.unlink()
        for each in created:
            each.rmdir()
        output = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise RunError(
            "Slurm has refused the job, so nothing was started",
            notes=[f"sbatch: {line.removeprefix('sbatch: ').removeprefix('error: ')}" for line in output],
            remedy="change [launcher] in the TOML file, or give another value with `--set launcher.KEY=VALUE`; "
            "`sinfo` lists the partitions",
        ) from error
    return jobs


def _check_slurm() -> None:
    """Checks that Slurm is installed and answers. If Slurm did not answer, `sbatch` would wait for minutes."""
    remedy = "submit from a login node of the cluster, or leave `--launcher` out"
    if missing := [tool for tool in ("sbatch", "srun", "scontrol") if shutil.which(tool) is None]:
        tools = " and ".join(f"`{tool}`" for tool in missing)
        raise RunError(f"Slurm is not installed on this machine: {tools} can't be found", remedy=remedy)
    try:
        subprocess.run(["scontrol", "ping"], capture_output=True, text=True, check=True, timeout=_SECONDS)
    except subprocess.SubprocessError as error:
        output = getattr(error, "stdout", None) or f"no answer within {_SECONDS} seconds"
        output = output.decode() if isinstance(output, bytes) else output
        raise RunError("Slurm does not answer", notes=[f"scontrol ping: {output.strip()}"], remedy=remedy) from error


def _parameters(name: str, settings: Launcher) -> dict[str, Any]:
    """Returns the parameters of submitit's executor for Slurm."""
    cpus = settings.cpus_per_task
    parameters: dict[str, Any] = {
        "job_name": name,
        "partition": settings.partition,
        # This key is set even if its value is None, because submitit's default is five minutes.
        "time": settings.time,
        "nodes": settings.nodes,
        "ntasks_per_node": settings.processes_per_node,
        "gpus_per_node": settings.gpus_per_node,
        "cpus_per_task": cpus,
        "account": settings.account,
        "setup": settings.setup,
        "wckey": None,
        # If a process fails, the other processes must end, too. Since Slurm 22.05, `srun` does not inherit the option
        # `--cpus-per-task` of the job.
        "srun_args": ["--kill-on-bad-exit=1", *([f"--cpus-per-task={cpus}"] if cpus else [])],
        "additional_parameters": {
            # The run saves and exits on SIGTERM, and `--requeue` then queues the job again.
            "signal": f"TERM@{settings.stop_before_limit}",
            "requeue": True,
            **({"mem": settings.mem} if settings.mem else {}),
            **{key.replace("_", "-"): value for key, value in settings.sbatch.items() if value is not False},
        },
    }
    if settings.parallel is not None:
        parameters["array_parallelism"] = settings.parallel
    return parameters


@contextmanager
def _environment_without_job() -> Iterator[None]:
    """Removes the environment variables of the job that this process may run in, and restores them after the block."""
    before: Mapping[str, str] = dict(os.environ)
    for variable in before:
        if variable != _OF_THE_CLUSTER and (variable in _OF_A_RANK or variable.startswith(_OF_A_JOB)):
            del os.environ[variable]
    try:
        yield
    finally:
        os.environ.update(before)
