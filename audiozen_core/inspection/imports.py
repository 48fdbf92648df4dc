"""Imports components in a child process, because an import may hang or crash.

This is the parent's side of `audiozen plugins doctor`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from audiozen_core.diagnostics import codes
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.errors import RegistryError
from audiozen_core.registry.entry import Entry
from audiozen_core.registry.scope import installed_path

_CHILD = (
    "import sys; sys.path[:] = [entry for entry in sys.path if entry]\n"
    "from audiozen_core.inspection.probe import main; main()"
)


def import_all(entries: Sequence[Entry], limit: float) -> Iterator[tuple[Entry, list[Diagnostic]]]:
    """Imports components in a child process, and yields each component with the findings about it.

    If a component hangs or ends the process, a new process imports the remaining components.

    Args:
        entries: the components.
        limit: the number of seconds that the import of one component may take.

    Raises:
        RegistryError: the child process does not start.
    """
    waiting = list(entries)
    while waiting:
        with _Child(waiting) as child:
            # The child answers once it has imported torch, so that a slow import of torch is not blamed on a component.
            if child.answer() is None:
                raise RegistryError(
                    "the process that imports the plugins did not start",
                    remedy="check that `python -c 'import torch'` works in this environment",
                    notes=child.output(),
                )
            while waiting:
                entry = waiting.pop(0)
                try:
                    answer = child.answer(limit)
                except queue.Empty:
                    message = f"{entry.title}: its import takes longer than {limit:g} s"
                    notes = ("help: do slow work, such as a download, when the component is built",)
                    yield entry, [Diagnostic(codes.IMPORT_TAKES_TOO_LONG, message, notes=notes)]
                    break
                if answer is None:
                    message = f"{entry.title}: its import ends the process, {child.end()}"
                    yield entry, [Diagnostic(codes.IMPORT_ENDS_PROCESS, message, notes=child.output())]
                    break
                yield entry, [Diagnostic(**{**finding, "notes": tuple(finding["notes"])}) for finding in answer]


class _Child:
    """A child process that imports the entries in order."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            # With its own session, the child can be killed together with all processes that a component has started.
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, installed_path()))},
        )
        self._answers: queue.Queue[list[dict[str, Any]] | None] = queue.Queue()
        request = {"path": installed_path(), "entries": [dataclasses.asdict(entry) for entry in entries]}
        threading.Thread(target=self._read, daemon=True).start()
        with contextlib.suppress(BrokenPipeError):
            assert self._process.stdin
            self._process.stdin.write(json.dumps(request))
            self._process.stdin.close()

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError, AttributeError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def answer(self, limit: float | None = None) -> list[dict[str, Any]] | None:
        """Returns the next answer, or None if the process ended. Raises `queue.Empty` after the limit in seconds."""
        return self._answers.get(timeout=limit)

    def end(self) -> str:
        """Waits for the end of the process and says how it ended."""
        code = self._process.wait()
        return f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"

    def output(self) -> tuple[str, ...]:
        """Returns a note with the end of the process's standard error, if it wrote anything there."""
        self._process.wait()
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace")[-2000:].strip()
        return (f"output: {text}",) if text else ()

    def _read(self) -> None:
        assert self._process.stdout
        with contextlib.suppress(ValueError, OSError):
            for line in self._process.stdout:
                self._answers.put(json.loads(line))
        self._answers.put(None)
