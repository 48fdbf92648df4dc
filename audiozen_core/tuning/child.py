"""Measures a batch size in a child process, and kills the child process before the memory of the machine is full."""

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
from audiozen_core.tuning.batch_sizes import BatchSizeResult
from audiozen_core.tuning.free_memory import free_memory

# The time between two checks of the free memory. It is so short that a process can't fill the reserve in between.
_EVERY_SECONDS = 0.02


class MemoryLimit:
    """The reserve: the amount of memory that must stay free.

    Args:
        share: the share of the currently free memory that can be used, between 0 and 1.
        free: returns the number of free bytes, or None if the number is unknown.

    Raises:
        RunError: `share` is not between 0 and 1.
    """

    def __init__(self, share: float, free: Callable[[], int | None] = free_memory) -> None:
        if not 0 < share < 1:
            raise RunError(f"{share:g} is not a share of the free memory", remedy="set --memory between 0 and 1")
        self._free = free
        now = free()
        self.reserve = 0 if now is None else round(now * (1 - share))

    @property
    def is_reached(self) -> bool:
        """Whether the free memory is less than the reserve."""
        now = self._free()
        return now is not None and now < self.reserve


def measure_in_child(
    file: Path, overrides: Sequence[str], batch_size: int, *, steps: int, limit: MemoryLimit
) -> BatchSizeResult:
    """Runs `measure_size` in a child process.

    The batch size does not fit if the child process is killed, either by this function at the memory limit or by the
    system.

    Raises:
        RunError: training failed for a reason other than memory.
    """
    with tempfile.TemporaryDirectory(prefix="audiozen-") as folder:
        answer, output = Path(folder) / "answer.json", Path(folder) / "output.txt"
        request = {"file": str(file), "overrides": list(overrides), "batch_size": batch_size, "steps": steps}
        with output.open("wb") as log:
            code, was_ended = run_within(_command(answer), json.dumps(request), log.fileno(), limit)
        if was_ended:
            return BatchSizeResult(
                batch_size, fits=False, reason="the training would use more memory than --memory allows"
            )
        if code == -signal.SIGKILL:
            return BatchSizeResult(batch_size, fits=False, reason="the system killed the training")
        last = (output.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""])[-1]
        if not answer.exists():
            message = f"training with `batch_size = {batch_size}` ended with exit code {code}: {last}"
            remedy = f"`audiozen run {file} --fast-dev-run` shows the whole output"
            raise RunError(message.rstrip(": "), remedy=remedy)
        result = json.loads(answer.read_text(encoding="utf-8"))
    if "error" in result:
        problem = result["error"]
        message = f"training with `batch_size = {batch_size}` failed: {problem['message']}"
        raise RunError(message, remedy=problem["remedy"], notes=problem["notes"])
    return BatchSizeResult(**result)


def _command(answer: Path) -> list[str]:
    return [sys.executable, "-m", "audiozen_core.tuning.batch_trial", str(answer)]


def run_within(command: Sequence[str], request: str, output: int, limit: MemoryLimit) -> tuple[int, bool]:
    """Runs a program with a request on its standard input, and kills it when the memory limit is reached.

    When this function returns or raises, the program and all its child processes have ended.

    Args:
        command: the program and its arguments.
        request: the line to write to standard input.
        output: the file descriptor for standard output and standard error.
        limit: the memory limit.

    Returns:
        The exit code, and whether the program was killed at the memory limit.
    """
    # With PYTHONSAFEPATH, a file in the working directory can't shadow a module of the standard library.
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment, start_new_session=True
    )
    was_ended = False
    try:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the program has ended already, and its exit code says why
            process.stdin.write(f"{request}\n".encode())
            process.stdin.flush()
        while process.poll() is None and not was_ended:
            was_ended = limit.is_reached
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_EVERY_SECONDS)
    finally:
        # This also kills the workers of the data loader, which are in the same process group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close() if process.stdin else None
    return process.returncode, was_ended
