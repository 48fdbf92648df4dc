"""A process that measures is ended in time, and leaves none behind."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from audiozen_core.errors import RunError
from audiozen_core.tuning import child
from audiozen_core.tuning.child import MemoryLimit, measure_in_child, run_within
from tests.tiny_experiment import TinyExperiment

PLENTY = MemoryLimit(0.8, lambda: 2**40)
# Starts a process of its own, as a data loader starts workers, and names it.
WITH_WORKER = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True); input(); input()"


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition):
    """Waits for something that happens soon: a killed process of another one is dead a moment later."""
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def test_a_process_is_ended_with_its_workers_when_memory_is_low(tmp_path):
    output = tmp_path / "output.txt"

    def free():
        # The process has started its worker: now the memory is nearly full.
        return 2**20 if output.exists() and output.read_text().endswith("\n") else 2**30

    limit = MemoryLimit(0.8, free)
    with output.open("wb") as log:
        code, was_ended = run_within([sys.executable, "-c", WITH_WORKER], "request", log.fileno(), limit)
    assert was_ended
    assert code < 0
    wait_until(lambda: not is_alive(int(output.read_text())))


def test_reserve_is_the_share_that_may_not_be_used():
    free = iter([1000, 201, 199])
    limit = MemoryLimit(0.8, lambda: next(free))
    assert [limit.is_reached, limit.is_reached] == [False, True]
    assert not MemoryLimit(0.8, lambda: None).is_reached


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_share_must_leave_something(share):
    with pytest.raises(RunError, match="not a share of the free memory"):
        MemoryLimit(share)


def answering(monkeypatch, code):
    """Lets a short program take the place of the one that trains."""
    monkeypatch.setattr(child, "_command", lambda answer: [sys.executable, "-c", code, str(answer)])


def test_a_process_that_the_system_kills_does_not_fit(monkeypatch, tmp_path):
    answering(monkeypatch, "import os; os.kill(os.getpid(), 9)")
    found = measure_in_child(tmp_path / "x.toml", [], 8, steps=1, limit=PLENTY)
    assert (found.fits, found.reason) == (False, "the system killed the training")


def test_the_last_line_of_a_process_that_fails_is_shown(monkeypatch, tmp_path):
    answering(monkeypatch, "raise SystemExit('planted')")
    with pytest.raises(RunError, match="`batch_size = 8` ended with exit code 1: planted"):
        measure_in_child(tmp_path / "x.toml", [], 8, steps=1, limit=PLENTY)


def test_an_error_of_the_training_is_passed_on(monkeypatch, tmp_path):
    answer = '{"error": {"message": "planted", "remedy": "mend it", "notes": ["step: 3"]}}'
    answering(monkeypatch, f"import sys; open(sys.argv[1], 'w').write('''{answer}''')")
    with pytest.raises(RunError, match="failed: planted") as error:
        measure_in_child(tmp_path / "x.toml", [], 8, steps=1, limit=PLENTY)
    assert (error.value.remedy, error.value.notes) == ("mend it", ("step: 3",))


@pytest.mark.slow
def test_a_training_is_measured_in_a_process_of_its_own(tmp_path):
    file = TinyExperiment(tmp_path).write()
    found = measure_in_child(file, ["+meta.seed=3"], 3, steps=2, limit=PLENTY)
    assert (found.batch_size, found.fits, found.data_size) == (3, True, 6)


@pytest.mark.slow
def test_a_process_ends_when_the_one_that_asked_is_gone(tmp_path):
    waits = tmp_path / "waits"
    slow = (
        "\nimport time, pathlib\nclass Slow(Data):\n    def __getitem__(self, index):\n"
        f"        pathlib.Path({str(waits)!r}).touch()\n        time.sleep(60)\n"
    )
    file = TinyExperiment(tmp_path, slow).write(('[dataset]\npath = "parts.Data"', '[dataset]\npath = "parts.Slow"'))
    parent = (
        "import sys; from pathlib import Path; from audiozen_core.tuning.child import MemoryLimit, measure_in_child\n"
        "limit = MemoryLimit(0.8)\n"
        f"measure_in_child(Path({str(file)!r}), [], 2, steps=1, limit=limit)\n"
    )
    asking = subprocess.Popen([sys.executable, "-c", parent])
    wait_until(waits.exists)
    (measuring,) = map(int, Path(f"/proc/{asking.pid}/task/{asking.pid}/children").read_text().split())
    assert is_alive(measuring)
    asking.kill()
    asking.wait()
    wait_until(lambda: not is_alive(measuring))
