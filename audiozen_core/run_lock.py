"""One run a folder: a lock that says who holds it, and that does not outlive them. Imports no torch."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from audiozen_core.errors import RunError
from audiozen_core.files import make_folder, process_exists, remove_file
from audiozen_core.logging import get_logger

LOCK = "run.lock"

# Locks of the system on single bytes of the file: of who decides just now, and of who holds it.
_DECIDING, _HOLDING = 0, 1
_NO_LOCKS_HERE = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock.

    Attributes:
        host: the computer's name.
        pid: the process's number there.
        started: what tells the process from others that had the number before or will have it, "" where not known.
        namespace: which processes see each other's numbers: those of one container; "" where not known.
        since: when it took the lock, ISO 8601.
    """

    host: str
    pid: int
    started: str = ""
    namespace: str = ""
    since: str = ""

    @classmethod
    def me(cls) -> Holder:
        """This process."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        return cls(socket.gethostname(), os.getpid(), _started(os.getpid()), _namespace(), now)

    @property
    def alive(self) -> bool | None:
        """Whether the process is still there; for one of another computer that is assumed.

        None for one of another container of this computer, whose number says nothing here.
        """
        if self.host != socket.gethostname():
            return True
        if self.namespace != _namespace() and self.started.startswith(_boot()):
            return None
        return process_exists(self.pid) and _started(self.pid) == self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since or 'some time'}"


class RunLock:
    """The lock of a run's folder, held within a `with` block.

    Besides the text that says who holds it, the file is locked by the system for as long as the process lives. That
    tells where the text can't: between containers of one computer.

    Args:
        folder: the run's folder; it is made if need be.

    Raises:
        RunError: somebody else holds it; the message says who. Raised on entering the block.
    """

    _mine: ClassVar[set[Path]] = set()

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self.held = False
        self._descriptor = -1

    def __enter__(self) -> RunLock:
        make_folder(self.path.parent)
        me, real = Holder.me(), self.path.resolve()
        if real in self._mine:
            # Looking into the file would give up the system's lock on it.
            raise self._in_use(str(me))
        descriptor = _open_alone(self.path)
        try:
            holder = _read(descriptor)
            free = _lock(descriptor, _HOLDING)
            alive = holder is not None and (not free if holder.alive is None else holder.alive)
            if alive or not free:
                raise self._in_use(str(holder or "another process, which does not say its name"))
            if holder is not None:
                get_logger().warning("the lock of a dead run is taken over", holder=str(holder))
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, (json.dumps(asdict(me)) + "\n").encode(), 0)
            os.fsync(descriptor)
            _unlock(descriptor, _DECIDING)
        except OSError as error:
            os.close(descriptor)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        except BaseException:
            os.close(descriptor)
            raise
        self._mine.add(real)
        self._descriptor, self.held = descriptor, True
        return self

    def __exit__(self, *_: object) -> None:
        self.held = False
        self._mine.discard(self.path.resolve())
        with contextlib.suppress(OSError):
            _lock(self._descriptor, _DECIDING, wait=True)
            if _is_the_file(self._descriptor, self.path):
                remove_file(self.path)
        os.close(self._descriptor)

    def _in_use(self, who: str) -> RunError:
        return RunError(
            f"{self.path.parent} is in use: {who}",
            remedy=f"wait for it or end it; if it is no more, delete {self.path}",
        )


def _open_alone(path: Path) -> int:
    """The file, opened, with the right to decide: between reading and writing nobody else may."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor, _DECIDING, wait=True)
            # The one before may have deleted it in the meantime.
            if _is_the_file(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_the_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _lock(descriptor: int, byte: int, *, wait: bool = False) -> bool:
    """Locks one byte of the file for this process; False if another has it. True where there are no such locks."""
    try:
        import fcntl

        fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, byte)
    except ImportError:
        return True
    except OSError as error:
        if error.errno in _NO_LOCKS_HERE:
            return True
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def _unlock(descriptor: int, byte: int) -> None:
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, byte)


def _read(descriptor: int) -> Holder | None:
    """Who holds it; None for nobody. What can't be read is of a process that died while it wrote."""
    try:
        fields = json.loads(os.pread(descriptor, 4096, 0))
        return Holder(**{name: fields[name] for name in Holder.__slots__ if name in fields})
    except (ValueError, TypeError):
        return None


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115
    except OSError:
        return ""


def _started(pid: int) -> str:
    """The boot of the computer and the moment in it when the process started; Linux only."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    # A zombie is dead, though its number is still taken.
    return "" if fields[0] in "ZX" else f"{_boot()}/{fields[19]}"
