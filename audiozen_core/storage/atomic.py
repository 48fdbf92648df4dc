"""Files that appear whole or not at all.

What a run leaves on the disk (checkpoints, tables, records) is written through here, so that a crash at any moment
leaves the old file or the new one. Modes follow the umask. Imports no torch.
"""

# Each operation stands here as the system call that it is, and the crash tests count them.
# ruff: noqa: PTH102, PTH104, PTH105, PTH106, PTH108, PTH115, PTH123, PTH211

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from typing_extensions import Buffer

PARTIAL_SUFFIX = ".partial"
"""Ends the name of a file that is being written: one that stays behind is of a dead run and may be deleted."""

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
"""The errors of a disk that is full."""

_TEMPORARY = re.compile(r"\..+\.(?P<pid>\d+)-[0-9a-f]+" + re.escape(PARTIAL_SUFFIX))
_CHUNK = 1 << 20
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NOT_SUPPORTED = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


@dataclass(frozen=True, slots=True)
class Digest:
    """What was written: its size in bytes and its SHA-256 in hexadecimal digits."""

    size: int
    sha256: str


class Sink:
    """An open file to write to; it hashes what it writes, so that nothing has to be read again."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: Buffer) -> int:
        """Writes all of `data` (a short write is gone on with) and returns its length in bytes."""
        with memoryview(data) as view, view.cast("B") as octets:
            for start in range(0, len(octets), _CHUNK):
                chunk = octets[start : start + _CHUNK]
                self._hash.update(chunk)
                while chunk:
                    written = os.write(self._descriptor, chunk)
                    if written == 0:
                        raise OSError(errno.EIO, os.strerror(errno.EIO))
                    chunk = chunk[written:]
            self._size += len(octets)
            return len(octets)

    @property
    def digest(self) -> Digest:
        """Size and hash of what has been written so far."""
        return Digest(self._size, self._hash.hexdigest())


Content = bytes | str | Callable[[Sink], object]
"""The bytes, the text (written as UTF-8), or a function that writes to the sink it is given."""


def write_whole(path: Path, content: Content) -> Digest:
    r"""Writes a file so that, at any moment and after any crash, `path` is the old file or the new one, whole.

    Args:
        path: the file; its folder must exist. A symbolic link is replaced, not followed.
        content: the bytes, the text (written as UTF-8), or a function that calls `write` of the sink it is given.

    Returns:
        The size and the hash of what was written.

    Raises:
        OSError: the disk refused; `path` is as it was.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "scores.csv"
        ...     digest = write_whole(path, "id,si_sdr\n")
        ...     path.read_text(), digest.size
        ('id,si_sdr\n', 10)
    """
    with _replacing(path) as aside:
        return write_new(aside, content)


def write_new(path: Path, content: Content) -> Digest:
    """Writes a file that does not exist yet and waits until its bytes are on the disk (its name may not be).

    Raises:
        OSError: the disk refused, or `path` exists; a part of the file may be there.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        sink = Sink(descriptor)
        if callable(content):
            content(sink)
        else:
            sink.write(content.encode() if isinstance(content, str) else content)
        os.fsync(descriptor)
    except OSError as error:
        if error.filename is None and error.errno is not None:
            # A call on a descriptor does not know the file's name.
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        os.close(descriptor)
    return sink.digest


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file to read, unbuffered; a link, a folder, a pipe or a device is an `OSError`."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return open(descriptor, "rb", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path) -> bytes:
    """The content of a regular file; a link, a folder, a pipe or a device is an `OSError`."""
    with open_regular(path) as file:
        return file.read()


def replace_link(link: Path, target: str) -> None:
    """Points `link` at its sibling `target`, in one step and durably.

    Where the file system has no symbolic links, `link` is a text file that holds the name; `read_link` reads both.

    Raises:
        OSError: the disk refused; `link` is as it was.
    """
    with _replacing(link) as aside:
        try:
            os.symlink(target, aside, target_is_directory=True)
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in _NOT_SUPPORTED:
                raise
            write_new(aside, f"{target}\n")


def read_link(link: Path) -> str | None:
    """The name that `replace_link` put there, whether or not there is anything of that name; None for no link."""
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return None
    except OSError:
        pass
    try:
        return read_regular(link).decode(errors="replace").strip()
    except OSError:
        return None


def make_folder(path: Path) -> None:
    """Makes a folder and its parents, durably; one that exists is left as it is."""
    if not path.is_dir():
        make_folder(path.parent)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
        sync_folder(path.parent)


def make_new_folder(path: Path) -> None:
    """Makes a folder that does not exist yet; its name is durable after `sync_folder` of the parent."""
    os.mkdir(path)


def remove_file(path: Path) -> None:
    """Deletes a file or a link; durable after `sync_folder`."""
    os.unlink(path)


def sync_folder(path: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    if os.name == "nt":  # Windows can't open a folder, and keeps the order by itself.
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
    finally:
        os.close(descriptor)


def remove_folder(path: Path) -> None:
    """Deletes a folder and all that is in it; links are removed, not followed."""
    with os.scandir(path) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                remove_folder(Path(entry.path))
            else:
                os.unlink(entry.path)
    os.rmdir(path)


def rename(source: Path, target: Path) -> None:
    """Renames within one file system; durable after `sync_folder`."""
    os.rename(source, target)


def exchange(first: Path, second: Path) -> bool:
    """Swaps two names in one step, so that neither is missing at any moment.

    Returns:
        False where the system or the file system can't do so (known: Linux can; nothing has been changed).

    Raises:
        OSError: the disk refused; nothing has been changed.
    """
    code = _rename_exchange(os.fsencode(first), os.fsencode(second))
    if code in _NOT_SUPPORTED:
        return False
    if code:
        raise OSError(code, os.strerror(code), str(first), None, str(second))
    return True


def process_exists(pid: int) -> bool:
    """Whether a process has that number on this computer; on Windows, where asking is not so simple, always true."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def temporary_name(name: str) -> str:
    """A hidden name of the same folder for what is to become `name`; no two are alike."""
    return f".{name[:100]}.{os.getpid()}-{secrets.token_hex(4)}{PARTIAL_SUFFIX}"


def is_temporary(name: str) -> bool:
    """Whether `temporary_name` makes such names."""
    return _TEMPORARY.fullmatch(name) is not None


def sweep_strays(folder: Path) -> list[Path]:
    """Deletes what dead processes have left half-written in a folder; what a live one is writing is let alone.

    Returns:
        The files and folders that were deleted.

    Raises:
        OSError: the disk refused.
    """
    strays = [path for path in sorted(folder.iterdir()) if _is_stray(path.name)] if folder.is_dir() else []
    for path in strays:
        if path.is_dir() and not path.is_symlink():
            remove_folder(path)
        else:
            os.unlink(path)
    return strays


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    aside = path.with_name(temporary_name(path.name))
    try:
        yield aside
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise
    sync_folder(path.parent)


def _is_stray(name: str) -> bool:
    match = _TEMPORARY.fullmatch(name)
    return match is not None and not process_exists(int(match["pid"]))


def _rename_exchange(first: bytes, second: bytes) -> int:
    """The system's error number, 0 for success."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return errno.ENOSYS
    if call(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE) == 0:
        return 0
    return ctypes.get_errno()
