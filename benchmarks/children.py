"""Runs commands in processes of their own, and measures their CPU time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
_AUDIOZEN = "import sys; from audiozen_core.cli.main import main; sys.argv[0] = 'audiozen'; main()"


def audiozen(*arguments: str) -> list[str]:
    """Returns a command line that does what `audiozen ARGUMENTS` does, with the Python and the code of this process."""
    return [sys.executable, "-c", _AUDIOZEN, *arguments]


def python(code: str) -> list[str]:
    """Returns a command line that runs Python code with the interpreter of this process."""
    return [sys.executable, "-c", code]


def child_seconds(command: Sequence[str], folder: Path, *, sites: Sequence[Path] = (), code: int = 0) -> float:
    """Runs a command, and returns its CPU time in seconds (user and system time together).

    Args:
        command: the command line.
        folder: the working directory of the command.
        sites: further folders with installed packages.
        code: the expected exit code.

    Raises:
        RuntimeError: the command has ended with another exit code. The message contains what the command printed.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (REPOSITORY, *sites)))}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as for users, Python may cache the bytecode of AudioZEN
    output = folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != code:
        raise RuntimeError(f"{command} ended with the exit code {process.returncode}: {output.read_text()}")
    return usage.ru_utime + usage.ru_stime
