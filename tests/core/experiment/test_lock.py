"""Only one run can use a folder. The lock names its holder and is free when the holder is dead."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys

import filelock
import pytest

from audiozen_core import logging
from audiozen_core.errors import RunError
from audiozen_core.experiment import lock
from audiozen_core.experiment.lock import LOCK, run_lock

NOTE, MARKER = f"{LOCK}.json", f"{LOCK}.marker"
HOLDS = """
import errno, fcntl, os, sys
from pathlib import Path
from audiozen_core import logging
from audiozen_core.experiment.lock import run_lock

logging.configure()  # the log goes to stderr

def fail(*_):
    raise OSError(int(os.environ["NO_LOCKS"]), "no locks here")

if "NO_LOCKS" in os.environ:
    fcntl.flock = fail
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def log_to_stderr():
    logging.configure()


def start(folder, code=HOLDS, *prefix, **environment):
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", code, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **environment},
    )


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.fixture
def holder(tmp_path):
    """Starts another process that holds the lock of `tmp_path`."""
    process = start(tmp_path, SLURM_JOB_ID="")
    assert process.stdout.readline() == "held\n"
    yield process
    kill(process)


def failing(code):
    def call(*_):
        raise OSError(code, os.strerror(code))

    return call


def test_error_for_a_second_run_names_the_holder_of_the_lock(tmp_path, holder):
    with pytest.raises(RunError) as error, run_lock(tmp_path):
        pass
    assert error.value.message.startswith(
        f"{tmp_path} is in use: process {holder.pid} on {socket.gethostname()}, since 20"
    )
    assert error.value.remedy == "wait for it, or end that process"
    assert holder.poll() is None


def test_error_names_the_batch_job(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    with run_lock(tmp_path), pytest.raises(RunError, match=", job 77, since 20"), run_lock(tmp_path):
        pass


def test_the_note_is_deleted_when_the_run_ends_and_the_lock_file_stays(tmp_path, holder):
    holder.communicate("")
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    with run_lock(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK, NOTE]
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_process_that_opened_the_lock_file_before_the_holder_ended_can_still_take_the_lock(tmp_path):
    """If the file were deleted, this process and the next one could each hold a lock, on two files of one name."""
    fcntl = pytest.importorskip("fcntl")
    with run_lock(tmp_path):
        early = (tmp_path / LOCK).open("r+")
    with early:
        fcntl.flock(early, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(RunError, match="is in use"), run_lock(tmp_path):
            pass


def test_failed_run_frees_the_lock(tmp_path):
    with pytest.raises(ValueError, match="training failed"), run_lock(tmp_path):
        raise ValueError("training failed")
    with run_lock(tmp_path):
        pass


def test_lock_of_a_killed_run_is_taken_over_and_logged_once(tmp_path, holder, capsys):
    kill(holder)
    assert (tmp_path / NOTE).exists()
    with run_lock(tmp_path):
        assert json.loads((tmp_path / NOTE).read_text())["pid"] == os.getpid()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "took over the lock of a run that was killed" in lines[0]
    assert f"process {holder.pid} on" in lines[0]
    with run_lock(tmp_path):
        pass
    assert capsys.readouterr().err == ""


def test_a_zombie_does_not_hold_the_lock(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    with run_lock(tmp_path):
        pass


FORKS = HOLDS.replace(
    '    print("held", flush=True)',
    """
    child = os.fork()
    if child == 0:  # like a worker that outlives its run
        print(os.getpid(), flush=True)
        sys.stdin.readline()
        os._exit(0)
""",
)


def test_a_child_that_outlives_a_killed_run_does_not_keep_its_lock(tmp_path):
    process = start(tmp_path, FORKS)
    child = int(process.stdout.readline())
    with pytest.raises(RunError, match="is in use"), run_lock(tmp_path):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    os.kill(child, 0)  # the child is still alive
    with run_lock(tmp_path):
        pass
    os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("inherited", [False, True], ids=["run_lock", "a plain flock"])
def test_child_of_a_killed_run_would_keep_a_plain_flock(tmp_path, inherited):
    """Negative control for the test above: filelock handles forks, but a child keeps a plain flock."""
    plain = FORKS.replace("run_lock(Path(sys.argv[1]))", "open(sys.argv[1] + '/run.lock', 'w') as file").replace(
        "    child = os.fork()", "    fcntl.flock(file, fcntl.LOCK_EX)\n    child = os.fork()"
    )
    process = start(tmp_path, plain if inherited else FORKS)
    child = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    with (tmp_path / LOCK).open("r+") as file:
        if inherited:
            with pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.kill(child, signal.SIGKILL)


WORKERS = HOLDS.replace(
    '    print("held", flush=True)',
    """
    from torch.utils.data import DataLoader
    loader = iter(DataLoader(range(100), num_workers=2))
    next(loader)
    print("held", flush=True)
""",
)


def test_a_killed_run_with_workers_frees_its_lock_at_once(tmp_path):
    process = start(tmp_path, WORKERS)
    assert process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    with run_lock(tmp_path):
        pass


def test_a_lock_removes_the_folders_it_created_if_they_stay_empty(tmp_path):
    with run_lock(tmp_path / "exp/a"):
        pass
    assert list(tmp_path.iterdir()) == []
    with run_lock(tmp_path / "exp/a"):
        (tmp_path / "exp/a/log").touch()
    assert sorted(path.name for path in (tmp_path / "exp/a").iterdir()) == ["log", LOCK]


def test_one_process_cannot_hold_the_lock_twice(tmp_path):
    with run_lock(tmp_path):
        with pytest.raises(RunError, match=f"process {os.getpid()} on"), run_lock(tmp_path):
            pass
        with pytest.raises(RunError, match="is in use"), run_lock(tmp_path / ".." / tmp_path.name):
            pass
        assert (tmp_path / NOTE).exists()


GARBAGE = ["", "{", "[]", '{"host": 1}', "[" * 4000, '{"job": ', "null"]


@pytest.mark.parametrize("text", GARBAGE, ids=lambda text: text[:12])
def test_an_unreadable_note_neither_holds_nor_frees_the_lock(tmp_path, text, holder):
    (tmp_path / NOTE).write_text(text)
    with pytest.raises(RunError, match="is in use: another process"), run_lock(tmp_path):
        pass
    kill(holder)
    with run_lock(tmp_path):
        assert json.loads((tmp_path / NOTE).read_text())["pid"] == os.getpid()


def plant(path, kind, thesis):
    """Creates a link, a pipe or a folder at `path`."""
    if kind != "link to nothing":
        thesis.write_text("years of work")
    if kind == "hard link":
        os.link(thesis, path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(thesis)


@pytest.mark.parametrize("kind", ["symbolic link", "link to nothing", "hard link", "pipe", "folder"])
def test_lock_that_is_a_link_or_not_a_file_is_rejected(tmp_path, kind):
    thesis, run = tmp_path / "thesis.tex", tmp_path / "run"
    run.mkdir()
    plant(run / LOCK, kind, thesis)
    with pytest.raises(RunError) as error, run_lock(run):
        pass
    assert error.value.message == f"{run / LOCK} is a link or not a regular file, so it can't be the lock of a run"
    assert thesis.exists() == (kind != "link to nothing")
    assert not thesis.exists() or thesis.read_text() == "years of work"


@pytest.mark.parametrize("kind", ["symbolic link", "link to nothing", "hard link", "pipe"])
def test_the_note_is_not_written_through_a_link(tmp_path, kind):
    thesis, run = tmp_path / "thesis.tex", tmp_path / "run"
    run.mkdir()
    plant(run / NOTE, kind, thesis)
    with run_lock(run):
        assert json.loads((run / NOTE).read_text())["pid"] == os.getpid()
    assert [path.name for path in run.iterdir()] == [LOCK]
    assert thesis.exists() == (kind != "link to nothing")
    assert not thesis.exists() or thesis.read_text() == "years of work"


@pytest.mark.parametrize("locks", [{}, {"NO_LOCKS": str(errno.ENOLCK)}], ids=["locks", "no locks"])
@pytest.mark.parametrize("killed", [False, True], ids=["new", "killed"])
def test_only_one_of_many_simultaneous_runs_gets_the_lock(tmp_path, locks, killed):
    if killed:
        first = start(tmp_path, **locks)
        assert first.stdout.readline() == "held\n"
        kill(first)
    code = HOLDS.replace("with run_lock", "sys.stdin.readline()\nwith run_lock", 1)
    processes = [start(tmp_path, code, **locks) for _ in range(4)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    # The process that holds the lock waits for its input to end; the others have exited.
    got = ["held\n" in iter(process.stdout.readline, "") for process in processes]
    assert got.count(True) == 1
    for process in processes:
        process.communicate()
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_run_in_another_container_holds_its_lock(tmp_path):
    process = start(tmp_path, HOLDS, "unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    if process.stdout.readline() != "held\n":
        process.communicate("")
        pytest.skip("this system does not allow a new process namespace")
    assert json.loads((tmp_path / NOTE).read_text())["pid"] == 1
    with pytest.raises(RunError, match="is in use: process 1 on "), run_lock(tmp_path):
        pass
    kill(process)
    with run_lock(tmp_path):
        pass


NO_LOCKS = [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP]


@pytest.mark.parametrize("code", NO_LOCKS, ids=errno.errorcode.get)
def test_marker_file_is_used_if_the_file_system_has_no_locks(tmp_path, monkeypatch, capsys, code):
    monkeypatch.setattr(fcntl, "flock", failing(code))
    holder = start(tmp_path, NO_LOCKS=str(code))
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(RunError, match=f"is in use: process {holder.pid} on") as error, run_lock(tmp_path):
        pass
    assert f"if it is dead, delete {tmp_path / MARKER}" in error.value.remedy
    assert capsys.readouterr().err.count("the file system has no locks; a marker file is used") == 1
    kill(holder)
    with run_lock(tmp_path):
        assert json.loads((tmp_path / NOTE).read_text())["pid"] == os.getpid()
        with pytest.raises(RunError, match="is in use"), run_lock(tmp_path):
            pass
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_marker_file_of_another_machine_blocks_until_it_is_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", failing(errno.ENOLCK))
    with run_lock(tmp_path):
        there = (tmp_path / MARKER).read_text().replace(socket.gethostname(), "elsewhere")
        there = there.replace(str(os.getpid()), str(2**22 + 1))
    (tmp_path / MARKER).write_text(there)
    with pytest.raises(RunError, match="is in use"), run_lock(tmp_path):
        pass
    (tmp_path / MARKER).unlink()
    with run_lock(tmp_path):
        pass


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_lock_works_without_its_note_on_a_full_disk(tmp_path, monkeypatch, code):
    (tmp_path / NOTE).write_text(json.dumps({"host": "here", "pid": 1, "since": "2026"}))  # of a killed run
    monkeypatch.setattr(lock, "write_whole", failing(code))
    with run_lock(tmp_path):
        other = subprocess.run(
            [sys.executable, "-c", HOLDS, str(tmp_path)], capture_output=True, text=True, input="", check=False
        )
        assert "is in use: another process" in other.stderr
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_full_disk_without_kernel_locks_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", failing(errno.ENOSYS))
    monkeypatch.setattr(filelock.SoftFileLock, "_write_lock_info", failing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"), run_lock(tmp_path):
        pass


def test_an_error_while_writing_the_note_frees_the_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "write_whole", failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output"), run_lock(tmp_path):
        pass
    monkeypatch.undo()
    with run_lock(tmp_path):
        pass
