"""Writes files completely or not at all.

A run writes checkpoints, tables and records with this module, so that a crash at any moment leaves either the old file
or the new one. The permissions of new files follow the umask. This module does not import torch.
"""

# This module calls `os` directly, not `pathlib`, because the crash tests replace `os` and count its calls.
# ruff: noqa: PTH102, PTH104, PTH105, PTH106, PTH108, PTH115, PTH123, PTH211

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import xxhash

_PARTIAL = ".partial"
"""The suffix of a file that is being written. If the process that writes it is dead, the file may be deleted."""

INCOMPLETE = ".incomplete"
"""The suffix of a result folder until the test or prediction has ended without an error."""

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
"""The error numbers of a full disk or an exhausted quota."""

# From this size on, huge pages of 2 MiB are worthwhile: clearing and mapping small pages takes longer than reading.
_LARGE = 4 << 20
_TEMPORARY = re.compile(r"\..+\.(?P<pid>\d+)-[0-9a-f]+" + re.escape(_PARTIAL))
# The error numbers of an operation that the file system does not support.
_NOT_SUPPORTED = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


@dataclass(frozen=True, slots=True)
class Digest:
    """The size of a file in bytes, and its XXH3-128 hash in hexadecimal digits.

    XXH3 detects accidents such as a torn write or a flipped bit, and is far faster than SHA-256. It does not protect
    against deliberate changes.
    """

    size: int
    xxh3: str


def write_whole(path: Path, content: bytes | str, *, syncs_folder: bool = True) -> Digest:
    r"""Writes a file so that, at any moment and after any crash, `path` is either the old file or the new one.

    Args:
        path: the file; its folder must exist. A symbolic link is replaced, not followed.
        content: the bytes, or a text, which is written as UTF-8. File names in it that are not UTF-8 are escaped.
        syncs_folder: whether to wait until the name of the file is on the disk. Otherwise, the caller calls
            `sync_folder` after its last file. If the power fails before that, `path` may still be the old file.

    Returns:
        The size and the hash of the file.

    Raises:
        OSError: writing fails; `path` is unchanged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "scores.csv"
        ...     digest = write_whole(path, "id,si_sdr\n")
        ...     path.read_text(), digest.size
        ('id,si_sdr\n', 10)
    """
    temporary = path.with_name(temporary_name(path.name))
    with _removed_on_error(temporary):
        digest = write_new(temporary, content)
        os.replace(temporary, path)
    if syncs_folder:
        sync_folder(path.parent)
    return digest


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[int]:
    """Opens a temporary file for the block, and renames it to `path` when the block ends without an error.

    Args:
        path: the file; its folder must exist. A symbolic link is replaced, not followed.

    Yields:
        The descriptor of a temporary file, for reading and writing.

    Raises:
        OSError: the file can't be created or completed; `path` is unchanged.
    """
    temporary = path.with_name(temporary_name(path.name))
    with creating(temporary) as descriptor:
        yield descriptor
    with _removed_on_error(temporary):
        os.replace(temporary, path)
    sync_folder(path.parent)


@contextlib.contextmanager
def creating(path: Path) -> Iterator[int]:
    """Opens a new file for the block, and waits at the end until its bytes are on the disk.

    The name of the file is durable after `sync_folder`. If the block raises an error, the file is removed.

    Args:
        path: the file, which does not exist; its folder must exist.

    Yields:
        The descriptor of the file, for reading and writing.

    Raises:
        OSError: the file can't be created or completed.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666)
    with _removed_on_error(path):
        try:
            yield descriptor
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_new(path: Path, content: bytes | str) -> Digest:
    """Writes a file that does not exist yet, and waits until its bytes are on the disk.

    The name of the file is durable after `sync_folder`. After an `OSError` the file may exist and be incomplete.
    """
    # File names that are not UTF-8 contain lone surrogates. The escape of a lone surrogate is also valid in JSON.
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        rest = memoryview(data)
        while rest:
            # The system may write only a part of the bytes.
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    except OSError as error:
        # An error of a call on a descriptor does not name the file.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)
    return Digest(len(data), xxhash.xxh3_128_hexdigest(data))


def complete_new(path: Path, write: Callable[[Path], object]) -> Digest:
    """Lets a library write a new file, then sets its mode, hashes it, and waits for the disk, as `write_new` does.

    `write` is called with the path, and writes or replaces the file.
    """
    # The umask can only be read by changing it. A file created here shows which mode it allows.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    os.close(descriptor)
    write(path)
    with open_regular(path) as file:
        os.fchmod(file.fileno(), mode)
        digest = hash_file(file)
        os.fsync(file.fileno())
    return digest


def hash_file(file: BinaryIO) -> Digest:
    """Reads a file to its end in pieces, and returns its digest."""
    xxh3, size = xxhash.xxh3_128(), 0
    while piece := file.read(1 << 20):
        xxh3.update(piece)
        size += len(piece)
    return Digest(size, xxh3.hexdigest())


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file for reading, unbuffered. Raises an `OSError` for a link, a folder, a pipe or a device."""
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
    """Returns the content of a regular file. Raises an `OSError` for a link, a folder, a pipe or a device."""
    with open_regular(path) as file:
        return file.read()


def read_hashed(path: Path) -> tuple[memoryview, Digest]:
    """Reads a regular file into new, writable memory, and hashes it at the same time.

    Raises:
        OSError: the file can't be read, or is a link, a folder, a pipe or a device.
    """
    with open_regular(path) as file:
        buffer = _new_memory(os.fstat(file.fileno()).st_size)
        xxh3, end = xxhash.xxh3_128(), 0
        # A piece is hashed while it is in the cache of the processor.
        while count := file.readinto(buffer[end : end + (1 << 20)]):  # type: ignore[attr-defined]
            xxh3.update(buffer[end : end + count])
            end += count
    return buffer[:end], Digest(end, xxh3.hexdigest())


def _new_memory(size: int) -> memoryview:
    if size < _LARGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return memoryview(bytearray(size))
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without large pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)


def replace_link(link: Path, target: str) -> bool:
    """Points the symbolic link `link` at `target`, a name in the same folder, atomically and durably.

    If the file system has no symbolic links, this function changes nothing and returns False.
    """
    temporary = link.with_name(temporary_name(link.name))
    try:
        os.symlink(target, temporary, target_is_directory=True)
    except NotImplementedError:
        return False
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        return False
    with _removed_on_error(temporary):
        os.replace(temporary, link)
    sync_folder(link.parent)
    return True


def read_link(link: Path) -> str | None:
    """Returns the target of a symbolic link, even if the target is missing; None if `link` is not a symbolic link."""
    try:
        return os.readlink(link)
    except OSError:
        return None


def make_folder(path: Path) -> None:
    """Creates a folder and its parents, durably, unless they exist.

    Args:
        path: the folder.

    Raises:
        OSError: a folder can't be created.
    """
    if not path.is_dir():
        make_folder(path.parent)
        try:
            os.mkdir(path)
        except FileExistsError:
            if not path.is_dir():  # otherwise another process has just created the folder
                raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(path)) from None
        sync_folder(path.parent)


def make_new_folder(path: Path) -> None:
    """Creates a folder that does not exist yet; its name is durable after `sync_folder` of the parent."""
    os.mkdir(path)


def remove(path: Path) -> None:
    """Deletes a file, a link (not its target), or a folder with its contents; durable after `sync_folder`."""
    if path.is_dir() and not path.is_symlink():
        with os.scandir(path) as entries:
            members = [Path(entry.path) for entry in entries]
        for member in members:
            remove(member)
        os.rmdir(path)
    else:
        os.unlink(path)


def sync_folder(path: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    if os.name == "nt":  # Windows can't open a folder, but keeps operations in order.
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems can't sync a folder. There is no other way to make the names durable.
        if error.errno not in _NOT_SUPPORTED:
            raise
    finally:
        os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Renames a file or folder within one file system; durable after `sync_folder`."""
    os.rename(source, target)


def temporary_name(name: str, owner: int | None = None) -> str:
    """Returns a hidden, unique name for a file or folder that will be renamed to `name`.

    Args:
        name: the final name.
        owner: the ID of the process that will rename it; by default this process. `remove_partial_files` removes the
            file when this process has ended.
    """
    # File systems limit the number of bytes, not of characters.
    beginning = os.fsencode(name)[:100].decode("utf-8", "ignore")
    return f".{beginning}.{os.getpid() if owner is None else owner}-{secrets.token_hex(4)}{_PARTIAL}"


def is_temporary(name: str) -> bool:
    """Returns whether the name has the form of `temporary_name`."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_partial_files(folder: Path) -> list[Path]:
    """Deletes the half-written files of dead processes in a folder, and returns their paths.

    Files that a live process is writing are kept.
    """
    partial = [path for path in sorted(folder.iterdir()) if _is_abandoned(path.name)] if folder.is_dir() else []
    for path in partial:
        remove(path)
    return partial


@contextlib.contextmanager
def _removed_on_error(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


def _is_abandoned(name: str) -> bool:
    match = _TEMPORARY.fullmatch(name)
    return match is not None and not process_exists(int(match["pid"]))


def process_exists(pid: int) -> bool:
    """Returns whether a process is running on this machine; always True on Windows, where `kill` would end the process.

    A process that has ended is not running, even if its parent has not collected its exit code. In a container, the
    first process often never does that for the workers of a killed command.
    """
    if os.name == "nt":
        return True
    if not _is_known(pid):
        return False
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The state follows the name of the program in brackets, which may itself contain brackets.
            return not file.read().rpartition(b") ")[2].startswith((b"Z", b"X"))
    except OSError:  # not Linux, or the process belongs to another user, or it has ended in the meantime
        return _is_known(pid)


def _is_known(pid: int) -> bool:
    """Returns whether the system knows a process; it may have ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # the process belongs to another user
        return True
    return True
