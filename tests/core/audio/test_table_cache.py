"""The list of many files is remembered until one of their folders changes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from audiozen_core.audio import listing, table_cache
from audiozen_core.audio.listing import list_audio, scan_audio

_scanned: list[list[str]] = []


def _record(event: str, arguments: tuple[object, ...]) -> None:
    # The folder of the cache does not count: since Python 3.13 `Path.iterdir` scans it, too.
    if _scanned and event == "os.scandir" and Path(str(arguments[0])).name != "listings":
        _scanned[-1].append(str(arguments[0]))


# Once for all tests: an audit hook can't be removed.
sys.addaudithook(_record)


@pytest.fixture
def scanned():
    """Records each folder that is listed."""
    _scanned.append([])
    yield _scanned[-1]
    _scanned.pop()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(listing, "WORTH_REMEMBERING", 4)
    monkeypatch.setattr(table_cache, "_SETTLED_SECONDS", -1.0)  # so that a folder may have changed just now
    return tmp_path / "cache" / "audiozen" / "listings"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("a/one.wav", "a/b/two.wav", "a-b/three.wav", "four.wav", "notes.txt", "a/film.mp4", "a/.hidden.wav"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).touch()
    return tmp_path / "data"


def test_a_list_is_read_once_and_then_remembered(cache, data, scanned):
    with capture_logs() as first:
        found = list_audio(data)
    assert [path.relative_to(data).as_posix() for path in found] == [
        "a/b/two.wav",
        "a/one.wav",
        "a-b/three.wav",
        "four.wav",
    ]
    assert found == sorted(found)
    assert len(scanned) == 4
    with capture_logs() as second:
        assert list_audio(data) == found
    assert len(scanned) == 4
    assert first == second != []  # what is left out is said at each start
    assert len(list(cache.iterdir())) == 1


def test_the_list_without_subfolders_is_another_one(cache, data, monkeypatch):
    monkeypatch.setattr(listing, "WORTH_REMEMBERING", 1)
    for _ in range(2):
        assert (len(list_audio(data)), len(list_audio(data, subfolders=False))) == (4, 1)
    assert len(list(cache.iterdir())) == 2


def test_a_list_with_a_link_without_a_target_is_not_remembered(cache, data, tmp_path):
    (data / ".#lock").symlink_to(tmp_path / "user@host:1")  # of an editor
    list_audio(data)
    assert len(list(cache.iterdir())) == 1
    (data / "drive").symlink_to(tmp_path / "drive")
    with capture_logs() as logs:
        before = list_audio(data)
    assert any("a link has no target" in entry["event"] for entry in logs)
    (tmp_path / "drive").mkdir()
    (tmp_path / "drive" / "new.wav").touch()
    assert list_audio(data) == sorted([*before, data / "drive" / "new.wav"])


@pytest.mark.parametrize("name", ["new.wav", "a/b/new.wav", "c/new.wav"])
def test_a_new_file_is_found(cache, data, name):
    before = list_audio(data)
    (data / name).parent.mkdir(exist_ok=True)
    (data / name).touch()
    assert set(list_audio(data)) - set(before) == {data / name}


def test_a_file_that_is_gone_or_renamed_is_no_longer_listed(cache, data):
    before = list_audio(data)
    (data / "a/b/two.wav").rename(data / "a/b/zwo.wav")
    assert set(before) - set(list_audio(data)) == {data / "a/b/two.wav"}
    (data / "a/b/zwo.wav").unlink()
    assert len(list_audio(data)) == 3


def test_a_folder_that_replaces_another_one_is_listed(cache, data, tmp_path):
    list_audio(data)
    times = (data / "a").stat()
    (data / "a").rename(tmp_path / "old")
    (data / "a").mkdir()
    for number in range(4):
        (data / "a" / f"{number}.wav").touch()
    os.utime(data / "a", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert data / "a/3.wav" in list_audio(data)


def test_a_folder_that_has_just_changed_is_not_remembered(cache, data, monkeypatch):
    """A second change within the resolution of its time would not be noticed."""
    monkeypatch.setattr(table_cache, "_SETTLED_SECONDS", 2.0)
    assert len(list_audio(data)) == 4
    assert not cache.exists()


def test_a_folder_that_changes_while_it_is_listed_is_not_remembered(cache, data, monkeypatch):
    real = os.scandir

    def scandir(path):
        found = list(real(path))
        if Path(path).name == "b":
            (data / "late.wav").touch()
        return _Entries(found)

    monkeypatch.setattr(os, "scandir", scandir)
    assert len(list_audio(data)) == 4
    monkeypatch.undo()
    assert not cache.exists()


@pytest.mark.parametrize("fails", ["stat", "list", "link"])
def test_a_list_without_a_folder_that_could_not_be_read_is_not_remembered(cache, data, monkeypatch, fails):
    (data / "a/b/link").symlink_to("../../a-b")
    real, real_look = os.scandir, listing.file_stamp

    def scandir(path):
        if Path(path).name == "b" and fails == "list":
            raise OSError(116, "Stale file handle")
        return _Entries([_Stale(one) if fails == "link" and one.is_symlink() else one for one in real(path)])

    def look_at(path):
        if path.name == "b" and fails == "stat":
            raise OSError(116, "Stale file handle")
        return real_look(path)

    monkeypatch.setattr(listing, "WORTH_REMEMBERING", 1)
    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(listing, "file_stamp", look_at)
    with capture_logs() as logs:
        found = list_audio(data)
    assert data / "four.wav" in found
    assert (data / "a/b/two.wav" in found) is (fails == "link")
    (warning,) = [log["event"] for log in logs if "Stale file handle" in log["event"]]
    assert f"`{data / 'a/b'}` can't be read completely" in warning
    monkeypatch.undo()
    assert not cache.exists()


class _Stale:
    def __init__(self, entry):
        self.name, self.path = entry.name, entry.path

    def is_dir(self):
        raise OSError(116, "Stale file handle")


class _Entries:
    def __init__(self, entries):
        self.entries = entries

    def __enter__(self):
        return iter(self.entries)

    def __exit__(self, *_):
        pass


def test_few_files_are_not_remembered(cache, data, monkeypatch):
    monkeypatch.setattr(listing, "WORTH_REMEMBERING", 5)
    assert len(list_audio(data)) == 4
    assert not cache.exists()


def test_what_a_killed_process_left_behind_is_deleted_after_a_day(cache, data):
    cache.mkdir(parents=True)
    old, new = (cache / f".a.table.{number}-0123abcd.partial" for number in (1, 2))
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    list_audio(data)
    assert not old.exists()
    assert new.exists()


def test_processes_that_list_the_same_folder_write_the_same_table(cache, data):
    tokens = set()
    for _ in range(2):
        tokens.add(scan_audio(data).table.token)
        for path in cache.iterdir():
            path.unlink()
    assert len(tokens) == 1
    (data / "new.wav").touch()
    assert scan_audio(data).table.token not in tokens


@pytest.mark.parametrize("content", [b"", b"audiozen table 1\n", b"something else that is longer than a head"])
def test_a_damaged_table_is_made_again(cache, data, scanned, content):
    found = list_audio(data)
    (table,) = cache.iterdir()
    table.write_bytes(content)
    assert list_audio(data) == found
    assert len(scanned) == 8
    assert list_audio(data) == found
    assert len(scanned) == 8


def test_a_table_with_a_changed_byte_is_made_again(cache, data):
    found = list_audio(data)
    (table,) = cache.iterdir()
    table.write_bytes(table.read_bytes().replace(b"four.wav", b"five.wav"))
    assert list_audio(data) == found


def test_a_cache_that_can_not_be_written_is_said(cache, data):
    cache.parent.parent.write_text("a file instead of the folder")
    with capture_logs() as logs:
        assert len(list_audio(data)) == 4
    assert [log["event"] for log in logs if "can't be written" in log["event"]]


def test_a_listing_makes_paths_only_when_they_are_used(cache, data):
    found = scan_audio(data)
    assert found.table.file is not None
    assert (found[0], found[-1], found[1:3]) == (data / "a/b/two.wav", data / "four.wav", list_audio(data)[1:3])


def test_many_folders_are_listed_in_the_same_order_as_one_by_one(tmp_path, monkeypatch):
    for number in range(40):
        (tmp_path / f"{number % 7}" / f"{number}").mkdir(parents=True)
        (tmp_path / f"{number % 7}" / f"{number}" / "a.wav").touch()
    together = list_audio(tmp_path)
    monkeypatch.setattr(listing, "_THREADS", 1)
    assert list_audio(tmp_path) == together == sorted(tmp_path.rglob("*.wav"))
