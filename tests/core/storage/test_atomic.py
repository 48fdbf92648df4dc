"""Files appear complete or not at all, their permissions follow the umask, and links are replaced atomically."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import xxhash

from audiozen_core.storage import atomic
from audiozen_core.storage.atomic import (
    complete_new,
    open_regular,
    read_link,
    read_regular,
    remove_partial_files,
    replace_link,
    write_new,
    write_whole,
)


@pytest.mark.parametrize("content", [b"ab\x00", "Wörter\n", b"", b"0123456789" * 200_000])
def test_write_whole_writes_and_hashes_bytes_and_text(content, tmp_path):
    digest = write_whole(tmp_path / "file", content)
    written = (tmp_path / "file").read_bytes()
    assert written == (content.encode() if isinstance(content, str) else content)
    assert (digest.size, digest.xxh3) == (len(written), xxhash.xxh3_128_hexdigest(written))


def test_replacing_a_file_leaves_no_temporary_files(tmp_path):
    write_whole(tmp_path / "file", "old")
    write_whole(tmp_path / "file", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "new")]


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    write_whole(tmp_path / "file", "old")
    real = os.write

    def fail(descriptor, data):
        real(descriptor, data[:2])
        raise OSError(errno.EIO, "no more")

    monkeypatch.setattr(atomic.os, "write", fail)
    with pytest.raises(OSError, match="no more"):
        write_whole(tmp_path / "file", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(umask, tmp_path):
    previous = os.umask(umask)
    try:
        write_whole(tmp_path / "file", "x")
        atomic.make_folder(tmp_path / "a" / "b")
    finally:
        os.umask(previous)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~umask
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o777 & ~umask


def test_short_write_is_continued(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(atomic.os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    write_new(tmp_path / "file", b"0123456789")
    monkeypatch.undo()
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_write_new_never_replaces_a_file(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "file", "new")


def test_long_content_is_read_back_completely(tmp_path):
    content = bytes(range(256)) * 10_000
    write_whole(tmp_path / "file", content)
    assert read_regular(tmp_path / "file") == content


def test_open_regular_opens_only_regular_files(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", ".", "missing"):
        with pytest.raises(OSError):  # noqa: PT011 - each name raises a different error
            open_regular(tmp_path / name)


def test_link_can_be_replaced_and_read(tmp_path):
    assert read_link(tmp_path / "latest") is None
    for name in ("epoch_0001", "epoch_0002"):
        replace_link(tmp_path / "latest", name)
        assert (tmp_path / "latest").is_symlink()
        assert read_link(tmp_path / "latest") == name
    assert len(list(tmp_path.iterdir())) == 1


def test_replace_link_returns_false_on_a_file_system_without_links(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EPERM, "not here")

    assert replace_link(tmp_path / "latest", "epoch_0001")
    monkeypatch.setattr(atomic.os, "symlink", fail)
    assert not replace_link(tmp_path / "latest", "epoch_0002")
    assert [(path.name, read_link(path)) for path in tmp_path.iterdir()] == [("latest", "epoch_0001")]


def test_read_link_returns_none_for_a_file_or_folder(tmp_path):
    (tmp_path / "latest").write_text("epoch_0001")
    assert read_link(tmp_path / "latest") is None
    assert read_link(tmp_path) is None


def test_replace_link_raises_if_the_disk_is_full(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(atomic.os, "symlink", fail)
    with pytest.raises(OSError, match="full"):
        replace_link(tmp_path / "latest", "epoch_0001")
    assert list(tmp_path.iterdir()) == []


def test_removing_a_folder_does_not_follow_its_links(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").touch()
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner" / "file").touch()
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "outside")
    atomic.remove(tmp_path / "folder")
    assert [path.name for path in Path(tmp_path).rglob("*")] == ["outside", "file"]


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_error_for_a_failed_write_names_the_file(tmp_path, monkeypatch, call):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, call, fail)
    with pytest.raises(OSError, match="No space left") as error:
        write_new(tmp_path / "scores.csv", b"x")
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path / "scores.csv"))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs the processes of Linux as files")
def test_process_that_has_ended_does_not_exist_even_if_nobody_waits_for_it():
    assert atomic.process_exists(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert child.stdout.read() == b""  # until it has ended
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    os.kill(child.pid, 0)  # the system still knows it
    assert not atomic.process_exists(child.pid)
    child.wait()
    assert not atomic.process_exists(child.pid)


def test_process_that_ends_during_the_check_does_not_exist(monkeypatch):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

    def ends(path, mode):
        child.kill()
        child.wait()
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    monkeypatch.setattr(atomic, "open", ends, raising=False)
    assert not atomic.process_exists(child.pid)


def test_process_exists_where_processes_are_not_files(monkeypatch):
    def fails(path, mode):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    monkeypatch.setattr(atomic, "open", fails, raising=False)
    assert atomic.process_exists(os.getpid())


def test_only_partial_files_of_dead_processes_are_deleted(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / "outside").mkdir()
    for pid in (dead.pid, os.getpid()):
        (tmp_path / f".average_last_2.{pid}-abcd1234.partial" / "inner").mkdir(parents=True)
        (tmp_path / f".scores.csv.{pid}-abcd1234.partial").touch()
        (tmp_path / f".latest.{pid}-abcd1234.partial").symlink_to("outside")
    assert len(remove_partial_files(tmp_path)) == 3
    alive = [f".{name}.{os.getpid()}-abcd1234.partial" for name in ("average_last_2", "latest", "scores.csv")]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*alive, "outside"]


def test_complete_new_sets_permissions_and_hashes_the_content(tmp_path):
    def write(path):
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(b"from a library")
        temporary.chmod(0o600)
        temporary.rename(path)

    before = os.umask(0o027)
    try:
        digest = complete_new(tmp_path / "a", write)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert (digest.size, digest.xxh3) == (14, xxhash.xxh3_128_hexdigest(b"from a library"))
    with pytest.raises(FileExistsError):
        complete_new(tmp_path / "a", write)


def test_complete_new_raises_if_the_library_leaves_a_link(tmp_path):
    def write(path):
        path.unlink()
        path.symlink_to("/dev/null")

    with pytest.raises(OSError, match="symbolic link"):
        complete_new(tmp_path / "a", write)


def test_file_in_place_of_a_folder_is_an_error(tmp_path):
    (tmp_path / "a").touch()
    for path in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(NotADirectoryError, match="Not a directory"):
            atomic.make_folder(path)
