"""A run that is killed many times with SIGKILL ends like a run that is never killed."""

import json
import os
import random
import signal
from pathlib import Path

import pytest

from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.experiment.experiment import Experiment
from tests.core.checkpoint.exactness import difference
from tests.measured import without_measured
from tests.reliability.real_run import STEPS_PER_EPOCH, make_project, start

# Other tests cover the same code. Measuring the coverage here too would take longer than the tests themselves.
pytestmark = pytest.mark.no_cover

# The seed of the short test lets the kill come after the third step, when the workers run.
KILLS = [pytest.param(1, 1, 7, id="1 kill"), pytest.param(200, 60, 200, id="200 kills", marks=pytest.mark.slow)]
LINUX = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")


def children_of(pid):
    """Returns the IDs of the child processes of a process, its workers."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def alive(pid):
    """Returns whether the process is alive. A zombie counts as dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def spin(rounds):
    """Counts up to `rounds`, so that the kill comes at a random moment without a timed wait."""
    for _ in range(rounds):
        pass


def store_of(project):
    return CheckpointStore(project / "exp/run/checkpoints")


def end_of(project):
    """Returns the final state, and all records without the `time` field."""
    state = dict(store_of(project).load().state)
    records = [json.loads(line) for line in (project / "exp/run/metrics.jsonl").read_text().splitlines()]
    return state, [without_measured(record) for record in records]


def reads_until(process, wanted, times):
    """Reads the reports of the run until `wanted` has appeared `times` times; False if the run ends first."""
    while times:
        line = process.stdout.readline()
        if not line or line == "end\n":
            return False
        times -= line.startswith(wanted)
    return True


@LINUX
@pytest.mark.parametrize(("kills", "epochs", "seed"), KILLS)
def test_run_that_is_killed_many_times_ends_with_the_same_state(
    tmp_path, monkeypatch, record_property, kills, epochs, seed
):
    project, chooser = make_project(tmp_path / "killed", epochs), random.Random(seed)
    further = 1 + 2 * epochs * STEPS_PER_EPOCH // kills
    workers, moments = set(), dict.fromkeys(("built", "started", "step", "validating"), 0)
    for _ in range(kills):
        process = start(project, "--resume")
        moment = chooser.choices(list(moments), weights=(2, 1, 6, 1))[0]
        if not reads_until(process, moment, chooser.randint(1, further) if moment == "step" else 1):
            _, errors = process.communicate()
            assert process.returncode == 0, errors
            break
        moments[moment] += 1
        spin(chooser.randrange(300_000))
        workers.update(children_of(process.pid))
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        # The signal killed the run, or the run had just ended. A worker may still report its dead parent on stderr.
        assert process.returncode in (-signal.SIGKILL, 0), errors
        assert [info.reason for info in store_of(project).list() if not info.intact] == []
    record_property("kills", sum(moments.values()))
    assert sum(moments.values()) >= min(kills, 1)
    last = start(project, "--resume")
    monkeypatch.chdir(make_project(tmp_path / "whole", epochs))
    Experiment.load("run.toml").run()  # in this process, to which nothing happens
    out, errors = last.communicate()
    assert (last.returncode, out.endswith("end\n")) == (0, True), errors
    assert difference(end_of(tmp_path / "whole"), end_of(project)) is None
    strays = [path.name for path in (project / "exp").rglob("*") if path.name.endswith(".partial")]
    assert strays == []
    assert not (project / "exp/run/run.lock.json").exists()
    assert workers
    assert [pid for pid in workers if alive(pid)] == []


@pytest.mark.slow
@LINUX
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_signal_to_the_process_group_saves_a_checkpoint_and_stops_all_workers(tmp_path, number, code):
    project = make_project(tmp_path / "run", 1000)
    process = start(project)
    assert reads_until(process, "step", 1)
    workers = children_of(process.pid)
    os.killpg(process.pid, number)
    out, errors = process.communicate()
    assert process.returncode == code, errors
    steps = [int(line.split()[1]) for line in out.splitlines() if line.startswith("step")]
    assert store_of(project).load().step == max([1, *steps])
    assert len(workers) >= 2
    assert [pid for pid in workers if alive(pid)] == []


@pytest.mark.slow
def test_checkpoint_request_before_the_first_step_does_not_stop_the_run(tmp_path):
    process = start(make_project(tmp_path / "run", 1))
    assert reads_until(process, "built", 1)
    process.send_signal(signal.SIGUSR1)
    out, errors = process.communicate()
    assert (process.returncode, out.endswith("end\n")) == (0, True), errors
