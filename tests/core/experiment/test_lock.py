"""One run a folder: the lock tells who holds it, and does not outlive them."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from audiozen_core.errors import RunError
from audiozen_core.experiment import lock
from audiozen_core.experiment.lock import LOCK, SILENT_SECONDS, Holder, RunLock

HOLDS = """
import sys
from pathlib import Path
from audiozen_core.experiment.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_is_refused_with_who_holds_the_lock(tmp_path, holder):
    with pytest.raises(RunError) as error, RunLock(tmp_path):
        pass
    assert f"process {holder.pid} on {socket.gethostname()}, since 20" in error.value.message
    assert LOCK in error.value.remedy


def test_the_lock_of_a_run_that_ended_is_gone(tmp_path, holder):
    holder.communicate("")
    assert not (tmp_path / LOCK).exists()
    with RunLock(tmp_path):
        assert (tmp_path / LOCK).exists()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_run_that_was_killed_is_taken_over(tmp_path, holder, capsys):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK).exists()
    with RunLock(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert "the lock of a dead run is taken over" in capsys.readouterr().err


def test_a_process_that_is_dead_but_not_buried_holds_nothing(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    with RunLock(tmp_path):
        pass


def write(folder, **changes):
    fields = {"host": socket.gethostname(), "pid": os.getpid(), "started": Holder.me().started, "since": "2026"}
    (folder / LOCK).write_text(json.dumps({**fields, **changes}))


def test_another_process_that_got_the_number_of_a_dead_one_does_not_hold_its_lock(tmp_path):
    write(tmp_path, started=f"{Holder.me().started.partition('/')[0]}/1")
    with RunLock(tmp_path):
        pass


def test_a_computer_is_known_by_its_start_not_by_its_name(tmp_path):
    boot = Holder.me().started.partition("/")[0]
    write(tmp_path, host="a-container", started=f"{boot}/1", namespace="its own", pid=1)
    with RunLock(tmp_path):  # the system's lock is free, so it is dead
        pass
    write(tmp_path, started="another-start/1")  # a computer of the same name, or this one before it was switched off
    with pytest.raises(RunError, match="is in use"), RunLock(tmp_path):
        pass


def test_a_lock_leaves_no_empty_folders_that_it_has_made(tmp_path):
    with RunLock(tmp_path / "exp/a"):
        pass
    assert list(tmp_path.iterdir()) == []
    with RunLock(tmp_path / "exp/a"):
        (tmp_path / "exp/a/log").touch()
    assert (tmp_path / "exp/a/log").exists()


def test_one_on_another_computer_holds_its_lock_as_long_as_it_gives_signs_of_life(tmp_path):
    write(tmp_path, host="elsewhere", started="its start/7", pid=1)
    with pytest.raises(RunError, match="process 1 on elsewhere") as error, RunLock(tmp_path):
        pass
    assert "its last sign of life came 0 seconds ago" in error.value.notes[0]
    assert (tmp_path / LOCK).exists()
    touched = (tmp_path / LOCK).stat().st_mtime
    os.utime(tmp_path / LOCK, (touched - SILENT_SECONDS - 1,) * 2)
    with RunLock(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["host"] == socket.gethostname()
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_the_scheduler_starts_again_elsewhere_takes_over_its_own_lock(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    write(tmp_path, host="elsewhere", started="its start/7", job="77", attempt="0")
    with pytest.raises(RunError, match="elsewhere"), RunLock(tmp_path):
        pass  # another task of the same start
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with RunLock(tmp_path):
        pass
    write(tmp_path, host="elsewhere", started="its start/7", job="78", attempt="0")
    with pytest.raises(RunError, match="elsewhere"), RunLock(tmp_path):
        pass


def test_the_holder_gives_signs_of_life(tmp_path):
    with RunLock(tmp_path, beat_seconds=0.001):
        os.utime(tmp_path / LOCK, (1, 1))
        assert any((tmp_path / LOCK).stat().st_mtime > 1 for _ in range(10**6))


def test_the_same_process_may_not_hold_it_twice(tmp_path):
    with RunLock(tmp_path), pytest.raises(RunError, match=str(os.getpid())), RunLock(tmp_path):
        pass


GARBAGE = ["", "{", "[]", '{"host": 1}', "[" * 4000]


@pytest.mark.parametrize("text", GARBAGE, ids=lambda text: text[:12])
def test_a_lock_that_was_never_written_out_holds_nothing(tmp_path, text):
    (tmp_path / LOCK).write_text(text)
    with RunLock(tmp_path):
        pass


@pytest.mark.parametrize(
    "field", [{"pid": "abc"}, {"pid": None}, {"pid": 2**70}, {"pid": -1}, {"pid": True}, {"started": 5}, {"job": None}],
    ids=str,
)  # fmt: skip
def test_a_lock_that_nobody_can_have_written_holds_nothing(tmp_path, field):
    elsewhere = {"host": "elsewhere", "started": "its start/7"}
    write(tmp_path, **elsewhere)
    with pytest.raises(RunError), RunLock(tmp_path):
        pass  # without the field it holds
    write(tmp_path, **{**elsewhere, **field})
    with RunLock(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


def test_a_text_that_nobody_understands_is_heeded_while_a_process_holds_the_lock(tmp_path, holder):
    for text in ("[" * 4000, '{"host": "here", "pid": "abc"}'):
        (tmp_path / LOCK).write_text(text)
        with pytest.raises(RunError, match="another process, which does not say its name"), RunLock(tmp_path):
            pass


@pytest.mark.parametrize("kind", ["symbolic link", "link to nothing", "hard link", "pipe", "folder"])
def test_a_lock_that_is_a_link_is_refused_and_nothing_elsewhere_is_touched(tmp_path, kind):
    thesis, run = tmp_path / "thesis.tex", tmp_path / "run"
    run.mkdir()
    if kind != "link to nothing":
        thesis.write_text("years of work")
    if kind == "hard link":
        os.link(thesis, run / LOCK)
    elif kind == "pipe":
        os.mkfifo(run / LOCK)
    elif kind == "folder":
        (run / LOCK).mkdir()
    else:
        (run / LOCK).symlink_to(thesis)
    with pytest.raises(RunError, match=LOCK), RunLock(run):
        pass
    assert thesis.exists() == (kind != "link to nothing")
    assert not thesis.exists() or thesis.read_text() == "years of work"


def test_of_many_that_come_at_once_one_gets_it(tmp_path):
    write(tmp_path, pid=2**22 + 1)
    code = HOLDS.replace("with RunLock", "sys.stdin.readline()\nwith RunLock", 1)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    # The one that holds it waits for its input to end; the others have ended by themselves.
    got = ["held\n" in iter(process.stdout.readline, "") for process in processes]
    assert got.count(True) == 1
    for process in processes:
        process.communicate()


def in_another_container(folder):
    """A process that holds the lock, with process numbers of its own, as in a container of this computer."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", HOLDS, str(folder)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    if process.stdout.readline() != "held\n":
        process.communicate("")
        pytest.skip("this system lets nobody make a process namespace")
    return process


def test_a_run_in_another_container_holds_its_lock_although_its_number_means_nothing_here(tmp_path):
    process = in_another_container(tmp_path)
    assert json.loads((tmp_path / LOCK).read_text())["pid"] == 1
    with pytest.raises(RunError, match="is in use: process 1 on "), RunLock(tmp_path):
        pass
    process.kill()
    process.communicate()
    with RunLock(tmp_path):
        pass


def test_where_the_file_system_has_no_locks_the_text_alone_decides(tmp_path, monkeypatch, holder):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(RunError, match=f"process {holder.pid}"), RunLock(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with RunLock(tmp_path):
        pass
    write(tmp_path, namespace="another container's", pid=1)
    with pytest.raises(RunError, match="process 1"), RunLock(tmp_path):
        pass


def test_a_disk_that_refuses_the_lock_is_named(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lock.os, "pwrite", refuse)
    with pytest.raises(OSError, match=LOCK), RunLock(tmp_path):
        pass


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_what_makes_room_goes_on_with_the_lock_of_the_system_alone(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(lock.os, "pwrite", refuse)
    with RunLock(tmp_path, without_room=True):
        command = [sys.executable, "-c", HOLDS, str(tmp_path)]
        other = subprocess.run(command, capture_output=True, text=True, input="", check=False)
        assert "is in use: another process, which does not say its name" in other.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_room_and_without_locks_of_the_system_nothing_goes_on(tmp_path, monkeypatch):
    def refuse(code):
        def call(*_):
            raise OSError(code, os.strerror(code))

        return call

    monkeypatch.setattr(lock.os, "pwrite", refuse(errno.ENOSPC))
    monkeypatch.setattr(fcntl, "lockf", refuse(errno.ENOSYS))
    with pytest.raises(OSError, match=LOCK), RunLock(tmp_path, without_room=True):
        pass
    monkeypatch.undo()
    monkeypatch.setattr(lock.os, "pwrite", refuse(errno.EIO))
    with pytest.raises(OSError, match=LOCK), RunLock(tmp_path, without_room=True):
        pass
