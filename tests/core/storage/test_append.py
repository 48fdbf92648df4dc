"""Lines are appended completely and in order, even if the disk is full for some time."""

import errno
import os
from pathlib import Path

import pytest

from audiozen_core.storage import append
from audiozen_core.storage.append import LineFile


class Disk:
    """Replaces `os`, and simulates a disk with `room` free bytes."""

    def __init__(self, room):
        self.room = room

    def __getattr__(self, name):
        return getattr(os, name)

    def write(self, descriptor, data):
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = min(self.room, len(data))
        self.room -= taken
        return os.write(descriptor, bytes(data[:taken]))


@pytest.fixture
def disk(monkeypatch):
    disk = Disk(10**6)
    monkeypatch.setattr(append, "os", disk)
    return disk


def test_lines_from_a_full_disk_are_written_once_there_is_space(tmp_path, disk):
    file = LineFile(tmp_path / "lines")
    disk.room = 12
    errors = [file.write(line) for line in ("first line", "second line", "third line")]
    assert [error and error.errno for error in errors] == [None, errno.ENOSPC, errno.ENOSPC]
    assert (tmp_path / "lines").read_text() == "first line\ns"
    disk.room = 10**6
    assert file.write("fourth line") is None
    assert (tmp_path / "lines").read_text() == "first line\nsecond line\nthird line\nfourth line\n"
    assert file.close() == 0


def test_close_returns_the_number_of_lost_bytes(tmp_path, disk):
    file = LineFile(tmp_path / "lines")
    disk.room = 0
    file.write("äb")
    assert file.sync().errno == errno.ENOSPC
    assert file.close() == 4


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_writing_to_a_full_device_returns_the_error():
    file = LineFile(Path("/dev/full"))
    assert file.write("line").errno == errno.ENOSPC
    assert file.close() == 5


def test_incomplete_last_line_is_ended_before_the_next_one(tmp_path):
    (tmp_path / "lines").write_text('{"a": 1}\n{"b"')
    file = LineFile(tmp_path / "lines")
    file.write('{"c": 3}')
    file.close()
    assert (tmp_path / "lines").read_text() == '{"a": 1}\n{"b"\n{"c": 3}\n'


def test_two_line_files_append_to_the_same_file(tmp_path):
    first, second = LineFile(tmp_path / "lines"), LineFile(tmp_path / "lines")
    for count in range(3):
        first.write(f"first {count}")
        second.write(f"second {count}")
    lines = (tmp_path / "lines").read_text().splitlines()
    assert lines == [f"{who} {count}" for count in range(3) for who in ("first", "second")]
