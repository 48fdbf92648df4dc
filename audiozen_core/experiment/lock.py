"""One run a folder: a lock that says who holds it, and that does not outlive them. Imports no torch."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat
import threading
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from audiozen_core.errors import RunError
from audiozen_core.logging import get_logger
from audiozen_core.storage.atomic import NO_ROOM, make_folder, process_exists, remove_file, temporary_name

LOCK = "run.lock"

# The holder touches the file so often; of one on another computer that has not done so for so long nobody hears again.
BEAT_SECONDS = 20.0
SILENT_SECONDS = 180.0

_MAX_PID = 2**31 - 1

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
        job: the batch job, "" outside of one.
        attempt: which start of the job it is; a scheduler ends one before it makes another.
        since: when it took the lock, ISO 8601.
    """

    host: str
    pid: int
    started: str = ""
    namespace: str = ""
    job: str = ""
    attempt: str = ""
    since: str = ""

    @classmethod
    def me(cls) -> Holder:
        """This process."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        job, attempt = os.environ.get("SLURM_JOB_ID", ""), os.environ.get("SLURM_RESTART_COUNT", "0")
        return cls(socket.gethostname(), os.getpid(), _started(os.getpid()), _namespace(), job, attempt, now)

    def alive(self, silent: float) -> bool | None:
        """Whether the process is still there; one of another computer, if it has given a sign of life not long ago.

        Args:
            silent: the seconds since the last one.

        Returns:
            None for one of another container of this computer, whose number says nothing here.
        """
        if not self._here:
            me = Holder.me()
            restarted = self.job != "" and self.job == me.job and self.attempt != me.attempt
            return not restarted and silent < SILENT_SECONDS
        if self.namespace != _namespace():
            return None
        return process_exists(self.pid) and _started(self.pid) == self.started

    @property
    def _here(self) -> bool:
        """Whether it was on this computer, since its last start. Names do not tell: containers have their own."""
        boot, ours = self.started.partition("/")[0], _boot()
        return boot == ours if boot and ours else self.host == socket.gethostname()

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since or 'some time'}"


class RunLock:
    """The lock of a run's folder, held within a `with` block.

    Besides the text that says who holds it, the file is locked by the system for as long as the process lives, and a
    thread touches it now and then. These tell where the text can't: between containers, and between computers.

    Args:
        folder: the run's folder; it is made if need be.
        beat_seconds: how often it is touched.
        without_room: whether to go on with the system's lock alone where the disk has no room for the text: for what
            makes room.

    Raises:
        RunError: somebody else holds it; the message says who. Or the file is a link. Raised on entering the block.
    """

    _mine: ClassVar[set[Path]] = set()

    def __init__(self, folder: Path, beat_seconds: float = BEAT_SECONDS, *, without_room: bool = False) -> None:
        self.path = folder / LOCK
        self.without_room = without_room
        self.held = False
        self._descriptor = -1
        self._beats = Heart(beat_seconds)
        self._made: list[Path] = []

    def __enter__(self) -> RunLock:
        self._made = [folder for folder in self.path.parents if not folder.exists()]
        make_folder(self.path.parent)
        me, real = Holder.me(), self.path.resolve()
        if real in self._mine:
            # Looking into the file would give up the system's lock on it.
            raise self._in_use(str(me), 0.0)
        descriptor = _open_alone(self.path)
        try:
            holder, silent = _read(descriptor), _seconds_since_touched(descriptor, self.path)
            locked = _lock(descriptor, _HOLDING)
            alive = holder.alive(silent) if holder is not None else False
            if alive is None:
                alive = silent < SILENT_SECONDS if locked is None else not locked
            if alive or locked is False:
                raise self._in_use(str(holder or "another process, which does not say its name"), silent)
            if holder is not None:
                get_logger().warning("the lock of a dead run is taken over", holder=str(holder))
            self._write(descriptor, me, locked)
            _unlock(descriptor, _DECIDING)
        except OSError as error:
            os.close(descriptor)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        except BaseException:
            os.close(descriptor)
            raise
        self._mine.add(real)
        self._descriptor, self.held = descriptor, True
        self._beats.start(descriptor)
        return self

    def __exit__(self, *_: object) -> None:
        self.held = False
        self._beats.stop()
        self._mine.discard(self.path.resolve())
        with contextlib.suppress(OSError):
            _lock(self._descriptor, _DECIDING, wait=True)
            if _is_the_file(self._descriptor, self.path):
                remove_file(self.path)
        os.close(self._descriptor)
        self._leave_no_empty_folder()

    def _leave_no_empty_folder(self) -> None:
        with contextlib.suppress(OSError):
            for folder in self._made:
                folder.rmdir()

    def _write(self, descriptor: int, me: Holder, locked: bool | None) -> None:
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, (json.dumps(asdict(me)) + "\n").encode(), 0)
            os.fsync(descriptor)
        except OSError as error:
            # Without either lock nothing would keep others away.
            if not (self.without_room and locked and error.errno in NO_ROOM):
                raise

    def _in_use(self, who: str, silent: float) -> RunError:
        return RunError(
            f"{self.path.parent} is in use: {who}",
            notes=(f"its last sign of life came {max(0.0, silent):.0f} seconds ago",),
            remedy=f"wait for it or end it; if it is no more, delete {self.path}, or try again when it has been silent "
            f"for {SILENT_SECONDS:.0f} seconds",
        )


class Heart:
    """Touches a file as long as the process lives.

    Args:
        seconds: how often.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, descriptor: int) -> None:
        """Begins, in a thread of its own."""
        self._stopped.clear()
        self._thread = threading.Thread(target=self._beat, args=(descriptor,), name="run lock", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when the file is not touched any more."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _beat(self, descriptor: int) -> None:
        while not self._stopped.wait(self._seconds):
            with contextlib.suppress(OSError, TypeError):
                os.utime(descriptor)


def _seconds_since_touched(descriptor: int, path: Path) -> float:
    """By the clock of the disk, which all computers have in common."""
    aside = path.with_name(temporary_name(path.name))
    with aside.open("w"):
        now = aside.stat().st_mtime
    aside.unlink()
    return now - os.fstat(descriptor).st_mtime


def _open_alone(path: Path) -> int:
    """The file, opened, with the right to decide: between reading and writing nobody else may."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    while True:
        try:
            descriptor = os.open(path, flags, 0o666)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK, errno.EISDIR, errno.ENXIO):
                raise _no_lock(path) from error
            raise
        try:
            status = os.fstat(descriptor)
            # What is written into it must not get into a file elsewhere. One that was just deleted has no name at all.
            if path.is_symlink() or not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                raise _no_lock(path)
            _lock(descriptor, _DECIDING, wait=True)
            # The one before may have deleted it in the meantime.
            if _is_the_file(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _no_lock(path: Path) -> RunError:
    return RunError(f"{path} is a link or no plain file, so it can't be the lock of a run", remedy="delete it")


def _is_the_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _lock(descriptor: int, byte: int, *, wait: bool = False) -> bool | None:
    """Locks one byte of the file for this process; False if another has it, None where there are no such locks."""
    try:
        import fcntl

        fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, byte)
    except ImportError:
        return None
    except OSError as error:
        if error.errno in _NO_LOCKS_HERE:
            return None
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
        holder = Holder(**{name: fields[name] for name in Holder.__slots__ if name in fields})
    except (ValueError, TypeError, RecursionError):
        return None
    texts = (getattr(holder, name) for name in Holder.__slots__ if name != "pid")
    plain = type(holder.pid) is int and 0 < holder.pid <= _MAX_PID and all(type(text) is str for text in texts)
    return holder if plain else None


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
