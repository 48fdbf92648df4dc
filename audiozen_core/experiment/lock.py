"""The lock of a run's folder: one process trains in it at a time. Imports no torch."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat
from datetime import datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from audiozen_core.errors import RunError
from audiozen_core.logging import get_logger
from audiozen_core.storage.atomic import NO_ROOM, make_folder, read_regular, remove, write_whole

LOCK = "run.lock"

_NO_KERNEL_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


class RunLock:
    """The lock of a run's folder, held within a `with` block.

    The kernel holds the lock on `run.lock` for this process and frees it when the process dies, however it dies.
    `run.lock.json` only says who the holder is, for the error message of the next process.

    Some file systems have no kernel locks. There a marker file (`run.lock.marker`) that names the holder is the lock.
    The marker of a dead process on this machine is replaced. A process on another machine can't be checked, so its
    marker counts until somebody deletes it.

    Args:
        folder: the run's folder; it is created if it does not exist.

    Raises:
        RunError: another process (or this one) holds the lock, or something other than a regular file has its name.
            Raised on entering the block.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self._note = folder / f"{LOCK}.json"
        self._marker = folder / f"{LOCK}.marker"
        self._lock: BaseFileLock | None = None
        self._created: list[Path] = []

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._lock is not None

    def __enter__(self) -> RunLock:
        self._created = [folder for folder in self.path.parents if not folder.exists()]
        make_folder(self.path.parent)
        with contextlib.suppress(FileNotFoundError):
            status = self.path.lstat()
            # Some versions of filelock truncate the file, which must not happen to one that has another name elsewhere.
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                raise RunError(
                    f"{self.path} is a link or not a regular file, so it can't be the lock of a run", remedy="delete it"
                )
        self._lock = self._acquire()
        try:
            self._write_note()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._release()
        with contextlib.suppress(OSError):
            for folder in self._created:
                folder.rmdir()

    def _acquire(self) -> BaseFileLock:
        # filelock falls back to a marker by itself for ENOSYS alone; NFS without a lock daemon reports ENOLCK.
        lock = FileLock(self.path, thread_local=False, fallback_to_soft=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise self._in_use("wait for it, or end that process") from None
        except OSError as error:
            if error.errno not in _NO_KERNEL_LOCKS:
                raise
        else:
            return lock
        get_logger().warning("the file system has no locks; a marker file is used", marker=str(self._marker))
        marker = SoftFileLock(self._marker, thread_local=False)
        try:
            # Not a single attempt: without an atomic exchange, one removes a dead holder's marker, the next makes ours.
            marker.acquire(timeout=0.1)
        except Timeout:
            remedy = f"wait for it, or end that process; if it is dead, delete {self._marker}"
            raise self._in_use(remedy) from None
        return marker

    def _release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is None:
            return
        # Deleted before the lock is freed: afterwards the files may belong to the next process.
        for path in (self._note, self.path):
            with contextlib.suppress(OSError):
                remove(path)
        lock.release()

    def _write_note(self) -> None:
        if self._note.exists():
            get_logger().warning("took over the lock of a run that was killed", holder=self._holder())
            remove(self._note)
        note = {"host": socket.gethostname(), "pid": os.getpid(), "job": os.environ.get("SLURM_JOB_ID", "")}
        note["since"] = datetime.now().astimezone().isoformat(timespec="seconds")
        try:
            write_whole(self._note, json.dumps(note) + "\n")
        except OSError as error:
            # The lock holds without its note, and `audiozen checkpoints prune` has to work on a full disk.
            if error.errno not in NO_ROOM:
                raise

    def _holder(self) -> str:
        """Who holds the lock, in words, as far as the note says."""
        try:
            note = json.loads(read_regular(self._note))
            job = f", job {note['job']}" if note.get("job") else ""
            return f"process {note['pid']} on {note['host']}{job}, since {note['since']}"
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return "another process"

    def _in_use(self, remedy: str) -> RunError:
        return RunError(f"{self.path.parent} is in use: {self._holder()}", remedy=remedy)
