"""Each start of a run records when, where and for how long it ran, how it ended, and its peak memory."""

from __future__ import annotations

import errno
import json
import os
import socket
from datetime import datetime
from pathlib import Path

import pytest

from audiozen_core.errors import AudioZenError
from audiozen_core.experiment import session
from audiozen_core.experiment.session_file import SESSIONS, read_session, read_sessions, session_file
from audiozen_core.trainer.memory import peak_process_memory
from tests.tiny_experiment import TinyExperiment

FAILING = """
class Failing(Trainer):
    def training_step(self, batch, batch_idx):
        if batch_idx == 1:
            raise {error}
        return super().training_step(batch, batch_idx)


class FailingTest(Trainer):
    def test_step(self, batch, batch_idx, dataloader_idx):
        raise ValueError("no test today")


class Nan(Trainer):
    def training_step(self, batch, batch_idx):
        return {{"loss": super().training_step(batch, batch_idx)["loss"] * float("nan")}}


class Stop:
    @hookimpl
    def stop_reason(self, trainer):
        return "it is good enough" if trainer.progress.epoch else None
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Creates a run of two starts: a training that is tested, and a test."""
    tiny = TinyExperiment(tmp_path_factory.mktemp("finished"))
    tiny.run(modes=("train", "test"))
    tiny.run(modes=("test",))
    return tiny.folder / "exp" / "tiny"


def failed(folder, path="parts.Failing", error="ValueError('bad [batch]')", modes=("train",), more=""):
    tiny = TinyExperiment(folder, FAILING.format(error=error))
    with pytest.raises(BaseException) as raised:  # noqa: PT011
        tiny.run(('path = "parts.Trainer"', f'path = "{path}"{more}'), modes=modes)
    (record,) = read_sessions(folder / "exp" / "tiny")
    return record, raised.value


def test_each_start_has_a_file_of_its_own(finished):
    first, second = read_sessions(finished)
    assert len(list(finished.glob(SESSIONS))) == 2
    assert (first.modes, second.modes) == (["train", "test"], ["test"])
    assert first.start <= second.start


def test_a_start_says_where_it_ran_and_for_how_long(finished):
    first = read_sessions(finished)[0]
    assert (first.host, first.pid, first.device, first.processes) == (socket.gethostname(), os.getpid(), "cpu", 1)
    assert (first.max_epochs, first.monitor, first.higher_is_better) == (2, "score", True)
    assert (finished / first.record).read_text().startswith("# started: ")
    wall = datetime.fromisoformat(first.ended) - first.start
    assert abs(wall.total_seconds() - first.seconds) < 1
    assert sum(done.seconds for done in first.done) <= first.seconds
    assert first.peak_gpu_memory is None


def test_each_mode_says_how_it_ended_and_what_it_reached(finished):
    train, test = read_sessions(finished)[0].done
    assert (train.mode, train.ending, train.reason) == ("train", "finished", "max_epochs = 2 is reached")
    assert (train.epoch, train.step, train.best_epoch) == (2, 6, 2)
    assert train.scalars["validate/score"] == train.best_score
    assert (test.mode, test.ending, list(test.scalars)) == ("test", "finished", ["test/loss"])


def test_peak_memory_is_in_bytes_and_that_of_this_process(finished):
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("needs the numbers of Linux")
    pages = int(statm.read_text().split()[1])
    now = pages * os.sysconf("SC_PAGE_SIZE")
    # The peak of an earlier test may be several times what is in use now. A wrong unit is a factor of 1024.
    assert now * 0.99 <= peak_process_memory() < now * 100
    assert 10 << 20 < read_sessions(finished)[0].peak_memory <= peak_process_memory()


def test_training_that_a_hook_stops_is_stopped(tmp_path):
    tiny = TinyExperiment(tmp_path, FAILING.format(error=""))
    tiny.run(("[model]", '[[hooks]]\npath = "parts.Stop"\n[model]'))
    (record,) = read_sessions(tmp_path / "exp/tiny")
    assert (record.done[0].ending, record.done[0].reason) == ("stopped", "it is good enough")
    assert record.ending == "finished"


def test_error_is_recorded_with_its_text(tmp_path):
    record, error = failed(tmp_path)
    assert record.ending == record.done[0].ending == "failed"
    assert "bad [batch]" in record.reason
    assert "bad [batch]" in str(error)
    assert record.seconds is not None


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "__import__('audiozen').errors.Interrupted(15, 'saved')"])
def test_signal_is_recorded_as_an_interruption(tmp_path, error):
    assert failed(tmp_path, error=error)[0].ending == "interrupted"


def test_nan_is_recorded_as_a_failure(tmp_path):
    record, _ = failed(tmp_path, "parts.Nan")
    assert record.ending == "failed"
    assert "nan" in record.reason.lower()


def test_failure_of_a_test_leaves_the_end_of_the_training(tmp_path):
    record, _ = failed(tmp_path, "parts.FailingTest", modes=("train", "test"))
    assert [done.ending for done in record.done] == ["finished", "failed"]
    assert (record.ending, record.done[0].best_epoch) == ("failed", 2)


def test_call_of_sys_exit_is_a_failure(tmp_path):
    record, error = failed(tmp_path, error="SystemExit(0)")
    assert record.ending == "failed"
    assert isinstance(error, AudioZenError)


def test_full_disk_at_the_end_hides_neither_the_error_nor_the_result(tmp_path, monkeypatch, capsys):
    real, calls = session.write_session, []

    def write(path, record):
        calls.append(path)
        if len(calls) % 3 != 1:  # the beginning of each run is written
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, record)

    monkeypatch.setattr(session, "write_session", write)
    record, error = failed(tmp_path)
    assert "bad [batch]" in str(error)
    assert record.ending is None
    TinyExperiment(tmp_path).run(name="other")
    assert len(calls) == 6
    assert "can't be recorded" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"format": 1}', '{"done": [], "started": 3}', "[" * 100_000, '{"done": [{}]}'],
)
def test_file_that_is_not_a_session_is_left_out(tmp_path, content):
    path = tmp_path / "session__2026_01_01--00_00_00__1.json"
    path.write_text(content)
    assert read_session(path) is None
    assert read_sessions(tmp_path) == []


@pytest.mark.parametrize(("name", "value"), [("seconds", "long"), ("started", "2026-01-01T00:00:00"), ("done", {})])
def test_session_with_a_value_of_another_type_is_left_out(finished, tmp_path, name, value):
    content = json.loads(next(finished.glob(SESSIONS)).read_text())
    path = tmp_path / "session__a.json"
    path.write_text(json.dumps({**content, "of a newer version": 1}))
    assert read_session(path) is not None
    path.write_text(json.dumps({**content, name: [value] if name == "done" else value}))
    assert read_session(path) is None


def test_starts_in_the_same_second_have_files_of_their_own(tmp_path):
    now = datetime(2026, 11, 27, 10).astimezone()
    first = session_file(tmp_path, now, 7)
    first.touch()
    second = session_file(tmp_path, now, 7)
    assert [first.name, second.name] == [
        "session__2026_11_27--10_00_00__7.json",
        "session__2026_11_27--10_00_00__7_2.json",
    ]
