"""What a run is doing, from the files in its folder."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from audiozen_core.experiment.lock import lock_holder, run_lock
from audiozen_core.experiment.session_file import SESSIONS, read_sessions, write_session
from audiozen_core.results.metric_records import newest_records, read_records
from audiozen_core.runs.summary import read_run
from tests.tiny_experiment import TinyExperiment

HOLDS = """
import sys
from pathlib import Path
from audiozen_core.experiment.lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    tiny = TinyExperiment(tmp_path_factory.mktemp("finished"))
    tiny.run(modes=("train", "test"))
    return tiny.folder / "exp" / "tiny"


@pytest.fixture
def run(finished, tmp_path):
    """Copies a finished run, which a test may change."""
    return shutil.copytree(finished, tmp_path / "tiny", symlinks=True)


def change(run, **values):
    (path,) = run.glob(SESSIONS)
    (record,) = read_sessions(run)
    write_session(path, replace(record, **values))


def without_end(run, **values):
    change(run, done=(), ended="", seconds=None, ending=None, **values)


def note(run, host="elsewhere", pid=1):
    (run / "run.lock.json").write_text(json.dumps({"host": host, "pid": pid, "job": "", "since": "2026"}))


def later(minutes=60):
    return datetime.now(timezone.utc) + timedelta(minutes=minutes)


def test_finished_run(run):
    found = read_run(run)
    assert (found.state, found.reason) == ("finished", "max_epochs = 2 is reached")
    assert (found.epoch, found.max_epochs, found.step, found.monitor) == (2, 2, 6, "score")
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    scores = [record["validate/score"] for record in records if "validate/score" in record]
    assert (found.best.score, found.best.epoch) == (max(scores), scores.index(max(scores)) + 1)
    assert (found.last.score, found.last.epoch) == (scores[-1], 2)
    assert found.training_seconds == found.sessions[0].done[0].seconds
    assert [list(test.scalars) for test in found.tests] == [["test/loss"]]
    assert found.holder is None


def test_run_whose_lock_another_process_holds_is_running_and_is_not_disturbed(run):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        before = sorted(path.name for path in run.iterdir())
        found = read_run(run)
        assert (found.state, found.holder.pid) == ("running", process.pid)
        assert sorted(path.name for path in run.iterdir()) == before
        process.kill()
    assert lock_holder(run).active is False
    # The run had ended before this process took the lock, so nothing is lost.
    assert read_run(run).state == "finished"


def test_looking_at_a_lock_does_not_keep_a_run_from_starting(run):
    """A run waits a moment for the lock, in case somebody just looks at it."""
    fcntl = pytest.importorskip("fcntl")
    import threading

    with (run / "run.lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.05, lambda: fcntl.flock(looking, fcntl.LOCK_UN)).start()
        with run_lock(run):
            assert lock_holder(run).active


def test_run_without_an_ending_whose_lock_is_free_was_killed(run):
    without_end(run)
    note(run, host=socket.gethostname(), pid=4711)
    found = read_run(run, now=later())
    assert found.state == "killed"
    assert found.reason == f"no ending was recorded by process 4711 on {socket.gethostname()}"
    (run / "run.lock.json").unlink()
    assert read_run(run, now=later()).state == "killed"
    # The best checkpoint and the records are still there.
    assert (found.best.epoch, found.epoch) == (2, 2)
    assert found.training_seconds >= 0


def test_run_on_another_machine_that_has_just_written_is_running_although_its_lock_is_not_seen(run):
    without_end(run, host="elsewhere")
    note(run)
    assert read_run(run).state == "running"
    assert read_run(run, now=later(6)).state == "killed"


@pytest.mark.parametrize(("host", "pid", "state"), [("elsewhere", 1, "running"), ("", 0, "finished")])
def test_marker_is_the_lock_where_the_kernel_has_none(run, monkeypatch, host, pid, state):
    fcntl = pytest.importorskip("fcntl")

    def fail(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    note(run, host or socket.gethostname(), pid or dead.pid)
    (run / "run.lock.marker").touch()
    assert read_run(run).state == state
    (run / "run.lock.marker").unlink()
    assert lock_holder(run).active is None


def test_test_that_still_runs_takes_no_lock(run):
    without_end(run, modes=("test",), pid=os.getpid())
    assert read_run(run).state == "running"
    without_end(run, modes=("test",), host="elsewhere")
    assert read_run(run, now=later()).state == "unknown"


@pytest.mark.parametrize("ending", ["stopped", "interrupted", "failed"])
def test_ending_of_the_training_is_the_state(run, ending):
    (record,) = read_sessions(run)
    train, test = record.done
    change(run, done=(replace(train, ending=ending, reason="why"), test))
    assert (read_run(run).state, read_run(run).reason) == (ending, "why")


def test_failure_of_the_test_after_the_training_is_reported_until_the_next_start(run):
    (record,) = read_sessions(run)
    change(run, done=record.done[:1], ending="failed", reason="in the test")
    assert (read_run(run).state, read_run(run).reason) == ("failed", "in the test")
    assert read_run(run).tests == ()
    start = (record.start + timedelta(seconds=1)).isoformat()
    write_session(run / "session__9.json", replace(record, started=start, modes=("test",), done=record.done[1:]))
    assert read_run(run).state == "finished"
    assert len(read_run(run).tests) == 1


def test_trainings_of_all_starts_count(run):
    (record,) = read_sessions(run)
    start = (record.start + timedelta(seconds=1)).isoformat()
    write_session(run / "session__9.json", replace(record, started=start))
    assert read_run(run).training_seconds == pytest.approx(2 * record.done[0].seconds)


def test_time_of_a_training_that_was_killed_before_a_later_start_is_partial(run):
    (record,) = read_sessions(run)
    assert not read_run(run).is_time_partial
    killed = replace(record, done=(), ended="", seconds=None, ending=None)
    start = (record.start - timedelta(seconds=1)).isoformat()
    write_session(run / "session__0.json", replace(killed, started=start))
    found = read_run(run)
    assert (found.training_seconds, found.is_time_partial) == (record.done[0].seconds, True)


def test_later_test_does_not_lengthen_a_training_that_was_killed(run):
    without_end(run)
    (record,) = read_sessions(run)
    assert not read_run(run).is_time_partial
    tested = (record.start + timedelta(days=3)).isoformat()
    write_session(run / "session__9.json", replace(record, started=tested, modes=("test",), ending="finished"))
    late = (record.start + timedelta(days=3)).timestamp()
    os.utime(run / "session__9.json", (late, late))
    found = read_run(run)
    assert found.is_time_partial
    assert 0 < found.training_seconds < 86400  # and not the three days until the test


def test_run_of_an_older_version_has_no_state_but_its_scores(run):
    for path in run.glob(SESSIONS):
        path.unlink()
    found = read_run(run)
    assert (found.state, found.max_epochs, found.training_seconds) == ("unknown", None, None)
    assert (found.epoch, found.best.epoch, found.last.epoch) == (2, 2, 2)
    assert list(found.tests[0].scalars) == ["test/loss"]


def test_broken_last_line_and_lines_that_are_no_records_are_left_out(run):
    path = run / "metrics.jsonl"
    whole = read_run(run)
    path.write_bytes(path.read_bytes() + b'[1]\nnull\n{"epoch": "3"}\n\xff\xfe\n{"epoch": 3, "st')
    assert read_run(run) == replace(whole, written=read_run(run).written)


def test_score_that_is_null_is_nan(run):
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "step": 9, "validate/score": null}\n')
    assert math.isnan(read_run(run).last.score)
    assert read_run(run).best.epoch == 2


def test_empty_folder_and_missing_files_are_no_error(tmp_path):
    found = read_run(tmp_path)
    assert (found.state, found.epoch, found.best, found.last, found.written) == ("unknown", 0, None, None, None)


@pytest.mark.parametrize("ends", ["", "\n"])
def test_records_come_from_the_end_also_across_pieces(tmp_path, ends):
    records = [{"step": step, "text": "ä" * (step % 97)} for step in range(3000)]
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records) + ends)
    assert path.stat().st_size > 3 << 16
    assert list(newest_records(path)) == records[::-1]
    assert list(read_records(path)) == records
    path.write_text("")
    assert list(newest_records(path)) == []
