"""Records whether the processes of a run have been restarted, and must continue from its checkpoints.

Torch's agent counts only restarts after a failure, and only on its own machine. But the agent also restarts the
processes when a machine joins or leaves. So the launcher on each machine names a file, and the processes create this
file once the run has begun. If the file exists, later starts continue the run. A start that fails before that, for
example because the folder holds another run, creates no file.

The processes also record that a signal has stopped them. Otherwise the agent would treat their exit codes as a failure.

This module does not import torch.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_BEGUN = "AUDIOZEN_RUN_HAS_BEGUN"
_STOPPED = "stopped"


@contextmanager
def notes_begin() -> Iterator[None]:
    """Lets processes that are started within the block record that the run has begun."""
    with tempfile.TemporaryDirectory(prefix="audiozen-") as folder:
        os.environ[_BEGUN] = str(Path(folder) / "begun")
        try:
            yield
        finally:
            del os.environ[_BEGUN]


def note_begin(environ: Mapping[str, str] = os.environ) -> None:
    """Records for the next start that the run has begun."""
    if path := environ.get(_BEGUN):
        Path(path).touch()


def note_stop(number: int, environ: Mapping[str, str] = os.environ) -> None:
    """Records for the launcher that all processes have agreed to end the run because of a signal.

    Args:
        number: the signal.
        environ: the environment of the process.
    """
    if path := environ.get(_BEGUN):
        Path(path).with_name(_STOPPED).write_text(str(number))


def is_stopped(environ: Mapping[str, str] = os.environ) -> bool:
    """Returns whether a signal has stopped the processes of this launcher."""
    begun = environ.get(_BEGUN)
    return begun is not None and Path(begun).with_name(_STOPPED).exists()


def take_stop(environ: Mapping[str, str] = os.environ) -> int | None:
    """Returns and forgets the signal that has stopped the processes of this launcher; None without such a signal."""
    if not is_stopped(environ):
        return None
    path = Path(environ[_BEGUN]).with_name(_STOPPED)
    number = int(path.read_text())
    path.unlink()
    return number


def has_begun(environ: Mapping[str, str] = os.environ) -> bool:
    """Returns whether the run began in an earlier start on this machine.

    If the user starts `torchrun`, only the number of restarts is known.
    """
    if path := environ.get(_BEGUN):
        return Path(path).exists()
    return environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
