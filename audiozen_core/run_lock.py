"""One run a folder: a lock that says who holds it, and that does not outlive them. Imports no torch."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from audiozen_core.errors import RunError
from audiozen_core.files import make_folder, remove_file
from audiozen_core.logging import get_logger

LOCK = "run.lock"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock.

    Attributes:
        host: the computer's name.
        pid: the process's number there.
        started: what tells the process from others that had the number before or will have it, "" where not known.
        since: when it took the lock, ISO 8601.
    """

    host: str
    pid: int
    started: str
    since: str

    @classmethod
    def me(cls) -> Holder:
        """This process."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        return cls(socket.gethostname(), os.getpid(), _started(os.getpid()), now)

    @property
    def alive(self) -> bool:
        """Whether the process is still there; for one of another computer that is not known, and so assumed."""
        if self.host != socket.gethostname():
            return True
        return _exists(self.pid) and _started(self.pid) == self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


class RunLock:
    """The lock of a run's folder, held within a `with` block.

    Args:
        folder: the run's folder; it is made if need be.

    Raises:
        RunError: somebody else holds it; the message says who. Raised on entering the block.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self.held = False

    def __enter__(self) -> RunLock:
        make_folder(self.path.parent)
        with _opened(self.path) as descriptor:
            holder = _read(descriptor)
            if holder is not None and holder.alive:
                raise RunError(
                    f"{self.path.parent} is in use: {holder}",
                    remedy=f"wait for it or end it; if it is no more, delete {self.path}",
                )
            if holder is not None:
                get_logger().warning("the lock of a dead run is taken over", holder=str(holder))
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, (json.dumps(asdict(Holder.me())) + "\n").encode(), 0)
            os.fsync(descriptor)
        self.held = True
        return self

    def __exit__(self, *_: object) -> None:
        self.held = False
        with contextlib.suppress(OSError), _opened(self.path):
            remove_file(self.path)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """The file, while no other process looks at it: between reading and writing nobody else may decide."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with contextlib.suppress(ImportError):
                import fcntl

                fcntl.lockf(descriptor, fcntl.LOCK_EX)
            # The one before may have deleted it in the meantime.
            if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _read(descriptor: int) -> Holder | None:
    """Who holds it; None for nobody. What can't be read is of a process that died while it wrote."""
    try:
        return Holder(**json.loads(os.pread(descriptor, 4096, 0)))
    except (ValueError, TypeError):
        return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _started(pid: int) -> str:
    """The boot of the computer and the moment in it when the process started; Linux only."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    # A zombie is dead, though its number is still taken.
    return "" if fields[0] in "ZX" else f"{boot}/{fields[19]}"
