"""A run survives a kill or an error, injected by `strace`, at any of its system calls."""

import multiprocessing
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.errors import AudioZenError
from tests.core.checkpoint.exactness import difference
from tests.reliability.test_crash import train

CALLS = ("write", "fsync", "mkdir", "rename", "symlink", "unlink", "rmdir")
FAULTS = {
    "killed": (CALLS, "signal=KILL:when={at}"),
    "disk full from then on": (("write", "mkdir", "symlink"), "error=ENOSPC:when={at}+"),
    "I/O error": (CALLS, "error=EIO:when={at}"),
}


def train_on_signal(root, signal):
    """Trains in a separate process after the tracer is attached. Only disk errors may stop the run."""
    torch.set_num_threads(1)
    sys.stderr = sys.stdout = None
    signal.recv()
    try:
        train(root)
    except (AudioZenError, OSError):
        sys.exit(2)


class Tracer:
    """Trains under strace, with one fault."""

    def __init__(self, folder):
        self.folder, self.count = folder, 0
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["tests.reliability.test_crash"])

    def run(self, inject=None):
        """Returns the folder of the run, its exit code, and the number of calls of each kind."""
        self.count += 1
        root, log = self.folder / f"run {self.count}", self.folder / f"calls {self.count}"
        root.mkdir()
        theirs, ours = self.context.Pipe(duplex=False)
        child = self.context.Process(target=train_on_signal, args=(root, theirs))
        child.start()
        command = ["strace", "-f", "-y", "-o", log, "-e", f"trace={','.join(CALLS)}", "-p", str(child.pid)]
        if inject:
            command[1:1] = ["-e", f"inject={inject}"]
        tracer = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
        attached = tracer.stderr.readline()
        ours.send("go")
        child.join()
        _, messages = tracer.communicate()
        if "attached" not in attached:
            pytest.skip(f"strace is not permitted here: {attached}{messages}")
        calls = Counter(re.findall(r"^\d+ +(\w+)\(", log.read_text(), flags=re.MULTILINE))
        return root, child.exitcode, calls


@pytest.fixture
def tracer(tmp_path):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    return Tracer(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_run_resumed_after_any_system_call_ends_with_the_same_state(fault, tracer, record_property):
    whole, code, counts = tracer.run()
    assert code == 0
    expected = train(whole.with_name("expected"))
    calls, inject = FAULTS[fault]
    points = [(call, at) for call in calls for at in range(1, counts[call] + 1)]
    assert len(points) > 30
    struck = 0
    for call, at in points:
        where = f"{fault} at {call} number {at}"
        root, code, _ = tracer.run(f"{call}:{inject.format(at=at)}")
        assert code in ((-9, 0) if fault == "killed" else (0, 2)), where
        struck += code != 0
        store = CheckpointStore(root / "exp/run/checkpoints")
        assert [info.path.name for info in store.list() if not info.intact] == [], where
        assert difference(expected, train(root)) is None, where
        assert [path.name for path in store.folder.iterdir() if path.name.startswith(".")] == [], where
        shutil.rmtree(root)
    assert struck > len(points) // 2 or fault == "I/O error"
    record_property("crash points", len(points))


@pytest.mark.slow
def test_the_tracer_stops_the_run_at_the_given_call(tracer):
    root, code, counts = tracer.run("rename:signal=KILL:when=9999")
    assert code == 0
    root, code, counts = tracer.run("fsync:signal=KILL:when=7")
    assert code == -9
    assert counts["fsync"] == 7
    assert Path(root / "exp/run/checkpoints").is_dir()
