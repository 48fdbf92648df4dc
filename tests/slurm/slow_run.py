"""A run that can be interrupted at leisure: it is slow until the test lets it finish."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.reliability.real_run import make_project
from tests.slurm.cluster import Cluster, wait_until

PACE = """

import pathlib
import time


class Pace:
    phase = "precision"

    @hookimpl
    def on_training_step_end(self):
        if not pathlib.Path("finish").exists():
            time.sleep(1.0)
"""


class SlowRun:
    """A project with `run.toml`, and the job that runs it.

    Args:
        folder: the project's folder, which does not exist yet.
        epochs: the number of epochs, of four steps each.
    """

    def __init__(self, folder: Path, epochs: int = 20) -> None:
        self.folder = make_project(folder, epochs)
        with (folder / "reports.py").open("a") as file:
            file.write(PACE)
        with (folder / "run.toml").open("a") as file:
            file.write('[[hooks]]\npath = "reports.Pace"\n')
        self.job = ""

    def submit(self, cluster: Cluster, *arguments: str) -> str:
        """Submits the run by `audiozen`, and returns the ID of its job."""
        done = audiozen(cluster, self.folder, "run.toml", "--launcher", "slurm", *arguments)
        assert done.returncode == 0, done.stderr
        (self.job,) = re.findall(r"^job (\d+):", done.stdout, re.MULTILINE)
        return self.job

    @property
    def output(self) -> str:
        """What the processes of the job have written so far."""
        return "".join(path.read_text() for path in sorted(self.folder.glob(f"exp/slurm/{self.job}_*.out")))

    def wait_for_steps(self, count: int = 3) -> None:
        """Waits until a start of the run has finished so many steps."""
        before = len(re.findall(r"^step", self.output, re.MULTILINE))
        wait_until(
            lambda: len(re.findall(r"^step", self.output, re.MULTILINE)) >= before + count,
            f"{count} steps:\n{self.output}",
        )

    def finish(self) -> None:
        """Lets the run go on as fast as it can."""
        (self.folder / "finish").touch()


def audiozen(cluster: Cluster, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Calls `audiozen run` in a folder, and waits for it."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("audiozen")), "run", *arguments],
        cwd=folder,
        env=cluster.environment,
        capture_output=True,
        text=True,
        check=False,
    )
