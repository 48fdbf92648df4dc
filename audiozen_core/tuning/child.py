"""Measures a batch size in a process of its own, and ends it before the memory of the computer is full."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from audiozen_core.errors import RunError
from audiozen_core.tuning.batch_sizes import Measured
from audiozen_core.tuning.free_memory import free_memory

# The memory is looked at so often that a process can't fill the reserve in between.
_EVERY_SECONDS = 0.02


class MemoryLimit:
    """How much memory must stay free.

    Args:
        share: the share of the memory that is free now, which may be used.
        free: returns the number of free bytes; None if it is not known.
    """

    def __init__(self, share: float, free: Callable[[], int | None] = free_memory) -> None:
        if not 0 < share < 1:
            raise RunError(f"{share:g} is not a share of the free memory", remedy="set --memory between 0 and 1")
        self._free = free
        now = free()
        self.reserve = 0 if now is None else round(now * (1 - share))

    @property
    def is_reached(self) -> bool:
        """Whether less memory than the reserve is free."""
        now = self._free()
        return now is not None and now < self.reserve


def measure_in_child(
    file: Path, overrides: Sequence[str], batch_size: int, *, steps: int, limit: MemoryLimit
) -> Measured:
    """Does what `measure_size` does, in a process of its own.

    A process that is killed, by the limit or by the system, does not fit.

    Raises:
        RunError: the training has failed for another reason than its memory.
    """
    with tempfile.TemporaryDirectory(prefix="audiozen-") as folder:
        answer, output = Path(folder) / "answer.json", Path(folder) / "output.txt"
        request = {"file": str(file), "overrides": list(overrides), "batch_size": batch_size, "steps": steps}
        with output.open("wb") as log:
            code, was_ended = run_within(_command(answer), json.dumps(request), log.fileno(), limit)
        if was_ended:
            return Measured(batch_size, fits=False, reason="it would use more memory than --memory allows")
        if code == -signal.SIGKILL:
            return Measured(batch_size, fits=False, reason="the system has killed it")
        last = (output.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""])[-1]
        if not answer.exists():
            raise RunError(f"a training with `batch_size = {batch_size}` ended with {code}: {last}".rstrip(": "))
        found = json.loads(answer.read_text(encoding="utf-8"))
    if "error" in found:
        problem = found["error"]
        message = f"a training with `batch_size = {batch_size}` failed: {problem['message']}"
        raise RunError(message, remedy=problem["remedy"], notes=problem["notes"])
    return Measured(**found)


def _command(answer: Path) -> list[str]:
    return [sys.executable, "-m", "audiozen_core.tuning.batch_trial", str(answer)]


def run_within(command: Sequence[str], request: str, output: int, limit: MemoryLimit) -> tuple[int, bool]:
    """Runs a program with a request on its standard input. Returns its exit code, and whether the limit has ended it.

    The program has ended, and its processes are killed, when this returns or raises.
    """
    # The working directory is not searched for modules, because a file there may have the name of a module of Python.
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment, start_new_session=True
    )
    was_ended = False
    try:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its exit code says what has happened
            process.stdin.write(f"{request}\n".encode())
            process.stdin.flush()
        while process.poll() is None and not was_ended:
            was_ended = limit.is_reached
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_EVERY_SECONDS)
    finally:
        # Workers of a data loader are in the same group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close() if process.stdin else None
    return process.returncode, was_ended
