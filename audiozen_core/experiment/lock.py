"""Locks a run's folder, so that only one process trains in it at a time. This module does not import torch."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from audiozen_core.errors import RunError
from audiozen_core.logging import get_logger
from audiozen_core.storage.atomic import (
    NO_ROOM,
    make_folder,
    open_regular,
    process_exists,
    read_regular,
    remove,
    write_whole,
)

LOCK = "run.lock"
_NOTE = f"{LOCK}.json"
_MARKER = f"{LOCK}.marker"

# How long to wait for the lock. `lock_holder` holds it for less than a millisecond when it checks whether a run is
# active, and this must not prevent a run from starting.
_WAIT_SECONDS = 0.2

_NO_KERNEL_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Holds the lock of a run's folder while the block runs.

    The kernel releases the lock on `run.lock` when this process ends, even if the process is killed. `run.lock.json`
    only describes the holder of the lock, for the error message of another process.

    Some file systems do not support kernel locks. On these, the lock is a marker file, `run.lock.marker`, that names
    the holder. The marker of a dead process on this machine is replaced, if the file system can swap two files
    atomically. A process on another machine can't be checked, so its marker is valid until somebody deletes it.

    Args:
        folder: the run folder. A folder that does not exist is created, and is removed again if nothing was written to
            it.

    Raises:
        RunError: this or another process holds the lock, or `run.lock` exists and is not a regular file.
    """
    created = [each for each in (folder, *folder.parents) if not each.exists()]
    make_folder(folder)
    lock = _acquire(folder)
    try:
        _write_note(folder)
        yield
    finally:
        # The note (`run.lock.json`) is removed while the lock is still held, because later it could belong to the next
        # process. `run.lock` stays, because a process that had just opened it would lock a deleted file, which the
        # next process can't see. Only in a folder that is removed again, `run.lock` is deleted too.
        with contextlib.suppress(OSError):
            remove(folder / _NOTE)
            if created and [path.name for path in folder.iterdir()] == [LOCK]:
                remove(folder / LOCK)
        lock.release()
        with contextlib.suppress(OSError):
            for each in created:
                each.rmdir()


@dataclass(frozen=True, slots=True)
class LockHolder:
    """The process that holds the lock of a run folder, or that held the lock until it was killed.

    Attributes:
        active: whether the process still holds the lock; None if this can't be determined.
        host: the machine of the process; "" if it is unknown.
        pid: the ID of the process; 0 if it is unknown.
        job: the batch job of the process; "" if it does not run in a batch job.
        since: when the process took the lock, in ISO 8601; "" if it is unknown.
    """

    active: bool | None
    host: str = ""
    pid: int = 0
    job: str = ""
    since: str = ""


def lock_holder(folder: Path) -> LockHolder | None:
    """Returns the process that holds the lock of a run folder. Does not change the folder.

    Returns:
        The holder of the lock, or the last holder if that process was killed; otherwise None.
    """
    # A process writes the note just after it takes the lock, unless the disk is full.
    try:
        holder = LockHolder(None, **_note(folder))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        holder = LockHolder(None)
    active = _is_locked(folder / LOCK)
    if active is None and (folder / _MARKER).exists():
        # A process on another machine can't be checked, so it counts as active, as in `run_lock`.
        active = holder.host != socket.gethostname() or process_exists(holder.pid)
    return replace(holder, active=active)


def _is_locked(path: Path) -> bool | None:
    """Returns whether a process holds the kernel's lock on a file; None if this can't be determined."""
    try:
        import fcntl

        with open_regular(path) as file:
            # A shared lock is taken, so that two processes that check at the same time do not block each other.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except (ImportError, OSError):
        return None
    return False


def _acquire(folder: Path) -> BaseFileLock:
    path = folder / LOCK
    with contextlib.suppress(FileNotFoundError):
        status = path.lstat()
        # Some versions of filelock truncate the lock file. If `run.lock` were a link, another file would lose its
        # content.
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise RunError(
                f"{path} is a link or not a regular file, so it can't be the lock of a run", remedy="delete it"
            )
    # filelock's own fallback to a marker file handles only ENOSYS, but NFS without a lock daemon reports ENOLCK.
    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(timeout=_WAIT_SECONDS, poll_interval=0.02)
        return lock
    except Timeout:
        raise _in_use(folder, "wait for it, or end that process") from None
    except OSError as error:
        if error.errno not in _NO_KERNEL_LOCKS:
            raise
    path = folder / _MARKER
    get_logger().warning("the file system has no locks; a marker file is used", marker=str(path))
    marker = SoftFileLock(path, thread_local=False)
    try:
        # Where filelock removes the marker of a dead process without replacing it, its next try creates ours.
        marker.acquire(timeout=0.1)
    except Timeout:
        raise _in_use(folder, f"wait for it, or end that process; if it is dead, delete {path}") from None
    return marker


def _write_note(folder: Path) -> None:
    path = folder / _NOTE
    if path.exists():
        get_logger().warning("took over the lock of a run that was killed", holder=_holder(folder))
        remove(path)
    note = {"host": socket.gethostname(), "pid": os.getpid(), "job": os.environ.get("SLURM_JOB_ID", "")}
    note["since"] = datetime.now().astimezone().isoformat(timespec="seconds")
    try:
        write_whole(path, json.dumps(note) + "\n")
    except OSError as error:
        # The lock works without the note, and `audiozen checkpoints prune` must work even if the disk is full.
        if error.errno not in NO_ROOM:
            raise


def _in_use(folder: Path, remedy: str) -> RunError:
    return RunError(f"{folder} is in use: {_holder(folder)}", remedy=remedy)


def _holder(folder: Path) -> str:
    """Describes the holder of the lock for an error message, using the note if it can be read."""
    try:
        note = _note(folder)
        job = f", job {note['job']}" if note["job"] else ""
        return f"process {note['pid']} on {note['host']}{job}, since {note['since']}"
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "another process"


def _note(folder: Path) -> dict[str, Any]:
    """Reads the note about the holder of the lock. If the note is damaged, almost any error may be raised."""
    note = json.loads(read_regular(folder / _NOTE))
    process = {"host": str(note["host"]), "pid": int(note["pid"])}
    return {**process, "job": str(note.get("job", "")), "since": str(note["since"])}
