"""Whether the processes of a run have been started again, and must continue from its checkpoints.

Torch's agent counts only the restarts after a failure, and those of its own machine. It also starts the processes again
when a machine joins or leaves. So the launcher on each machine names a file, and the processes create it once the run
has begun: from then on, whoever starts them, they continue. A start that has failed before, because the folder holds
another run for example, leaves no file.

The processes also note that a signal has stopped them. The agent would take their exit codes for a failure.

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
    """Lets the processes that are started within the block note that the run has begun."""
    with tempfile.TemporaryDirectory(prefix="audiozen-") as folder:
        os.environ[_BEGUN] = str(Path(folder) / "begun")
        try:
            yield
        finally:
            del os.environ[_BEGUN]


def note_begin(environ: Mapping[str, str] = os.environ) -> None:
    """Notes for the next start that the run has begun."""
    if path := environ.get(_BEGUN):
        Path(path).touch()


def note_stop(number: int, environ: Mapping[str, str] = os.environ) -> None:
    """Notes for the launcher that all processes have agreed to end the run because of a signal.

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
    """Returns the signal that has stopped the processes of this launcher, and forgets it; None if none has."""
    if not is_stopped(environ):
        return None
    path = Path(environ[_BEGUN]).with_name(_STOPPED)
    number = int(path.read_text())
    path.unlink()
    return number


def has_begun(environ: Mapping[str, str] = os.environ) -> bool:
    """Returns whether the run has begun in an earlier start, as far as this machine knows.

    `torchrun` by hand only says how often it has started the processes again.
    """
    if path := environ.get(_BEGUN):
        return Path(path).exists()
    return environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
