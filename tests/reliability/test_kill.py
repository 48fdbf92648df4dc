"""A real run with workers is killed with SIGKILL at random moments, again and again, and ends as if it had not been."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from audiozen_core.checkpoint import CheckpointStore
from tests.core.checkpoint.exactness import difference
from tests.reliability.killable import EPOCHS

REPOSITORY = Path(__file__).resolve().parents[2]
KILLS = [pytest.param(3, EPOCHS, id="3 kills"), pytest.param(200, 60, id="200 kills", marks=pytest.mark.slow)]


def start(folder, epochs):
    command = [sys.executable, "-m", "tests.reliability.killable", str(folder), str(epochs)]
    return subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def children_of(pid):
    """The workers of a process."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def alive(pid):
    """Whether there is such a process; a dead one that nobody has buried is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def spin(rounds):
    """Lets a moment go by without a look at a clock."""
    for _ in range(rounds):
        pass


def end_of(folder):
    state = dict(CheckpointStore(folder / "checkpoints").load().state)
    del state["extra"]
    return state


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(("kills", "epochs"), KILLS)
def test_killed_again_and_again_a_run_ends_with_the_weights_of_one_that_was_not(tmp_path, kills, epochs):
    folder, chooser = tmp_path / "killed", random.Random(kills)
    killed = ended = 0
    workers = []
    while not ended and killed < kills:
        process = start(folder, epochs)
        wanted = chooser.randrange(1, 2 + 10 * epochs // kills)
        for _ in range(wanted):
            if process.stdout.readline() in ("end\n", ""):
                ended = 1
                break
        workers += children_of(process.pid)
        spin(chooser.randrange(300_000))
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        # Died of the signal, or was at its end. A worker may still complain on standard error that its parent is gone.
        assert process.returncode in (-signal.SIGKILL, 0), errors
        killed += 1
        store = CheckpointStore(folder / "checkpoints")
        assert [info.reason for info in store.list() if not info.whole] == []
    assert killed >= min(kills, 3)
    last = start(folder, epochs)
    out, errors = last.communicate()
    assert out.endswith("end\n"), errors
    whole = start(tmp_path / "whole", epochs)
    assert whole.communicate()[0].endswith("end\n")
    assert difference(end_of(tmp_path / "whole"), end_of(folder)) is None
    assert [path.name for path in folder.rglob("*") if path.name.endswith((".partial", ".parked"))] == []
    assert not (folder / "run.lock").exists()
    steps = [line.split('"step": ')[1].split(",")[0] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps), key=int)
    assert workers
    assert [pid for pid in workers if alive(pid)] == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_whole_group_ends_the_run_with_a_checkpoint_and_no_worker_left(tmp_path, number, code):
    process = start(tmp_path / "run", 1000)
    assert process.stdout.readline() == "step 1\n"
    workers = children_of(process.pid)
    os.killpg(process.pid, number)
    out, errors = process.communicate()
    assert process.returncode == code, errors
    last = int(out.split()[-1]) if out.split() else 1
    assert CheckpointStore(tmp_path / "run" / "checkpoints").load().step == last
    assert len(workers) == 2
    assert [pid for pid in workers if alive(pid)] == []
