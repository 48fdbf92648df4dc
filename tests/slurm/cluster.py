"""A real Slurm with one node, on this machine: it starts in a second, in a folder of its own, on free ports."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.on_ranks import free_port

CONFIG = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
AuthType=auth/none
CredType=cred/none
# A job that is queued again waits a little longer than this; by default two minutes.
AuthInfo=cred_expire=5
# The ports of runs depend on the IDs of their jobs, and several clusters may run at the same time.
FirstJobId={first_job}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=bf_interval=1,sched_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait={kill_wait}
ReturnToService=2
SlurmdParameters=config_overrides
GresTypes=gpu
# Processes reach each other by the name of the node.
NodeName={host} NodeAddr=127.0.0.1 Port={node_port} CPUs=4 RealMemory=2000 Gres=gpu:2
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace} MaxTime=INFINITE
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE
"""

_PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
_PATIENCE = 120.0
"""The seconds after which a test that waits for a job fails."""


def missing() -> str:
    """Returns why no cluster can be started here; "" if one can."""
    if lacking := [name for name in _PROGRAMS if shutil.which(name) is None]:
        return f"{', '.join(lacking)} not installed: run tests/slurm/install.sh"
    return "" if os.geteuid() == 0 else "Slurm's daemons need root here"


class Cluster:
    """A running Slurm. Jobs of the partition `high` pre-empt those of `low`, which is the default.

    Args:
        folder: a folder for its state and its logs.
        grace: the seconds that a pre-empted job has before its final SIGTERM.
        kill_wait: the seconds between the final SIGTERM and SIGKILL.
    """

    def __init__(self, folder: Path, *, grace: int = 0, kill_wait: int = 10) -> None:
        self.folder = folder
        (folder / "state").mkdir(parents=True)
        (folder / "spool").mkdir()
        host = socket.gethostname().partition(".")[0]
        ports = {"controller_port": free_port(), "node_port": free_port()}
        self.config = folder / "slurm.conf"
        self.config.write_text(
            CONFIG.format(
                host=host, folder=folder, grace=grace, kill_wait=kill_wait, first_job=ports["controller_port"], **ports
            )
        )
        # Slurm takes any two devices for GPUs. Jobs are told to use them, and nothing is done to the devices.
        (folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
        # Jobs find `audiozen` as in an environment that has been activated.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = {**os.environ, "SLURM_CONF": str(self.config), "OMP_NUM_THREADS": "1", "PATH": path}
        self.processes = [self._start("slurmctld", "-D"), self._start("slurmd", "-D")]

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{command[0]}.out").open("wb") as output:
            return subprocess.Popen(command, env=self.environment, stdout=output, stderr=subprocess.STDOUT)

    def wait_until_ready(self) -> None:
        """Waits until the node takes jobs."""
        wait_until(lambda: self.run("sinfo", "-h", "-p", "low", "-o", "%T", check=False) == "idle", "an idle node")

    def run(self, *command: str, check: bool = True) -> str:
        """Runs a command of Slurm, and returns what it prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.strip()

    def submit(self, *options: str, command: str) -> str:
        """Submits a shell command, and returns the job's ID."""
        output = f"--output={self.folder}/job-%j.log"
        return self.run("sbatch", "--parsable", output, *options, "--wrap", command)

    def show(self, job: str) -> dict[str, str]:
        """Returns what Slurm knows about a job, such as `JobState` and `Restarts`; empty if the job is not known."""
        words = self.run("scontrol", "-o", "show", "job", job, check=False).split()
        return dict(word.partition("=")[::2] for word in words)

    def wait_for(self, job: str, *states: str, restarts: int = 0) -> dict[str, str]:
        """Waits until a job has one of the states, after at least so many restarts. Returns what is known about it."""
        found: dict[str, str] = {}

        def reached() -> bool:
            found.clear()
            found.update(self.show(job))
            return found.get("JobState") in states and int(found["Restarts"]) >= restarts

        try:
            wait_until(reached, f"job {job} to be {' or '.join(states)}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {found}") from None
        return found

    def stop(self) -> None:
        """Cancels all jobs, and ends the daemons that this object has started."""
        self.run("scancel", "--full", "--user=root", check=False)
        try:
            # A job outlives the daemon of its node.
            wait_until(lambda: not self.run("squeue", "-h", check=False), "all jobs to end")
        finally:
            for process in reversed(self.processes):
                process.terminate()
            for process in reversed(self.processes):
                process.wait(30)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Waits for a condition.

    Raises:
        TimeoutError: it has not come true for a long time.
    """
    end = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited in vain for {what}")
        time.sleep(0.2)
