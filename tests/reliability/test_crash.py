"""A run that is stopped at any file operation and resumed ends like an uninterrupted run."""

import errno
import json
import shutil
import sys
from pathlib import Path

import pytest

from audiozen_core.checkpoint.errors import CheckpointWriteError
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.errors import HookError
from audiozen_core.experiment.process import seed_generators
from audiozen_plugins.hooks.checkpoint import Checkpoint
from audiozen_plugins.hooks.metrics_jsonl import MetricsJsonl
from tests.core.checkpoint.exactness import difference
from tests.core.checkpoint.faulty_disk import Fault, FaultyDisk, KilledError, install
from tests.tiny_training import TinyTrainer, make_loader, make_trainer, state_of

# These tests run the same lines thousands of times. Measuring the coverage of all runs would double the time.
pytestmark = pytest.mark.no_cover

FAULTS = {
    "kill": {"kind": "kill before"},
    "kill within a write": {"kind": "kill within"},
    "power cut": {"kind": "kill before"},
    "short write": {"kind": "short"},
    "disk full": {"kind": "error", "code": errno.ENOSPC, "lasting": True},
    "no space once": {"kind": "error", "code": errno.ENOSPC},
    "I/O error": {"kind": "error", "code": errno.EIO},
}
SHORT = ("kill within a write", "power cut", "disk full", "I/O error")
SURVIVED = ("short write", "no space once", "I/O error")
IN_WRITES = ("kill within a write", "short write")


class Wavering(TinyTrainer):
    """The second epoch is the best, so `best` is older than the checkpoints that are pruned."""

    def validation_epoch_end(self, outputs):
        return super().validation_epoch_end(outputs) - 100.0 * abs(self.progress.epoch - 2)


def train(root):
    """Resumes like `audiozen run --resume`; returns the state and the records at the end."""
    folder = root / "exp" / "run"
    seed_generators(0)
    hooks = {"checkpoint": Checkpoint(max_failures=99), "metrics": MetricsJsonl()}
    options = {"max_epochs": 4, "save_ckpt_async": False, "max_num_checkpoints": 2, "log_interval": 1}
    trainer = make_trainer(folder, hooks=hooks, cls=Wavering, **options)
    store = CheckpointStore(folder / "checkpoints")
    if store.list(verify=False):
        loaded = store.load()
        trainer.load_checkpoint(loaded.state)
        store.rewind(loaded.path)
    trainer.train(make_loader(8), [make_loader(8, shuffle=False)])
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return state_of(trainer), [{key: record[key] for key in record if key != "time"} for record in records]


class Tries:
    """One folder for each attempt, on a disk with one fault."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.monkeypatch, self.count = folder, monkeypatch, 0

    def train(self, root, fault=None):
        disk = install(self.monkeypatch, FaultyDisk(root, fault))
        try:
            return disk, train(root)
        except (KilledError, CheckpointWriteError, HookError, OSError) as error:
            return disk, error

    def fresh(self):
        self.count += 1
        root = self.folder / f"try {self.count}"
        root.mkdir()
        return root

    def stopped(self, kind, at):
        """Returns the folder after the fault, and the outcome of the run."""
        root = self.fresh()
        disk, outcome = self.train(root, Fault(at, **FAULTS[kind]))
        if kind != "power cut":
            return root, outcome
        cut = self.folder / f"cut {self.count}"
        disk.after_power_cut(cut)
        shutil.rmtree(root)
        return cut, outcome


@pytest.fixture
def tries(tmp_path, monkeypatch):
    return Tries(tmp_path, monkeypatch)


def check(tries, kind, stride, offset=0):
    """Stops and resumes the run at every `stride`-th operation; returns the number of stops."""
    disk, whole = tries.train(tries.fresh())
    started = next(at for at, done in enumerate(disk.done) if "metrics.jsonl" in done) + 1
    points = [at for at, done in enumerate(disk.done) if kind not in IN_WRITES or done.startswith("write")]
    for at in points[offset % stride :: stride]:
        where = f"{kind} at operation {at}: {disk.done[at]}"
        root, outcome = tries.stopped(kind, at)
        if kind in SURVIVED and at >= started:
            assert isinstance(outcome, tuple), (where, outcome)
            assert difference(whole, outcome) is None, where
        install(tries.monkeypatch, FaultyDisk(root))
        folder = root / "exp/run/checkpoints"
        broken = [info.path.name for info in CheckpointStore(folder).list() if not info.intact]
        assert broken == [], where
        _, resumed = tries.train(root)
        assert isinstance(resumed, tuple), (where, resumed)
        assert difference(whole, resumed) is None, where
        strays = [path.name for path in folder.iterdir() if path.name.startswith(".")]
        assert strays == [], where
        shutil.rmtree(root)
    return len(points[offset % stride :: stride])


@pytest.mark.parametrize(
    "kind", [kind if kind in SHORT else pytest.param(kind, marks=pytest.mark.slow) for kind in FAULTS]
)
def test_run_resumed_after_every_twentieth_operation_ends_with_the_same_state(kind, tries, record_property):
    record_property("crash points", check(tries, kind, 20, list(FAULTS).index(kind)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS)
def test_run_resumed_after_any_operation_ends_with_the_same_state(kind, tries, record_property):
    record_property("crash points", check(tries, kind, 1))


def test_these_tests_detect_a_checkpoint_written_in_place(tries, monkeypatch):
    monkeypatch.setattr("audiozen_core.checkpoint.format.checkpoint.temporary_name", lambda name: "epoch_0099")
    with pytest.raises(AssertionError, match="epoch_0099"):
        check(tries, "kill", 3)


@pytest.mark.slow
def test_these_tests_detect_records_that_are_not_synced(tries, monkeypatch):
    monkeypatch.setattr("audiozen_core.storage.append.LineFile.sync", lambda file: None)
    with pytest.raises(AssertionError, match="power cut at operation"):
        check(tries, "power cut", 3)


CHANGES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.truncate"}
watched: list[tuple[str, str]] = []
watching: list[str] = []


def _watch(event, arguments):
    if not watching or event not in CHANGES:
        return
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & 0o1102):
        return  # only for reading
    if str(arguments[0]).startswith(watching[0]) or str(arguments[1]).startswith(watching[0]):
        watched.append((event, Path(str(arguments[0])).name))


def test_the_faulty_disk_counts_every_operation(tries):
    sys.addaudithook(_watch)
    root = tries.fresh()
    watching.append(str(root))
    disk, _ = tries.train(root)
    watching.clear()
    # The interpreter reports every file that is opened for writing, created, renamed, linked or deleted.
    counted = [done for done in disk.done if done.split()[0] not in ("write", "fsync")]
    reopened = len([event for event in watched if event == ("open", "metrics.jsonl")]) - 1
    assert len(watched) - reopened == len(counted) > 50
