"""Which changes prevent a resume, and which data and checkpoints a resumed run uses."""

import json
import os
import platform
import re
import shutil
import signal

import pytest
import torch

from audiozen_core.checkpoint.format import checkpoint
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.experiment import resume as resuming
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.experiment.lock import run_lock
from audiozen_core.hooks.marker import hookimpl
from audiozen_plugins.hooks.signals import Signals
from audiozen_plugins.trainer.enhancement import EnhancementTrainer
from tests.cli.conftest import write_pairs, write_project
from tests.core.checkpoint.exactness import difference


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run of two epochs. No test changes it."""
    folder = tmp_path_factory.mktemp("finished")
    write_project(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Experiment.load("tiny.toml").run()
    return folder / "exp"


@pytest.fixture
def ran(finished, project):
    """Creates a project with a finished run of two epochs."""
    shutil.copytree(finished, project / "exp", symlinks=True)
    return project


def test_change_that_affects_training_prevents_resuming_without_allow_drift(audiozen, ran):
    change = ["--set", "optimizer.args.lr=0.5", "--set", "trainer.args.max_epochs=3"]
    before = sorted(path.name for path in (ran / "exp/tiny").iterdir())
    outcome = audiozen("run", "tiny.toml", "--resume", *change)
    assert outcome.code == 2
    assert "optimizer.args.lr: 0.001 -> 0.5" in outcome.err
    assert "max_epochs" not in outcome.err
    assert sorted(path.name for path in (ran / "exp/tiny").iterdir()) == before
    outcome = audiozen("run", "tiny.toml", "--resume", "--allow-drift", *change)
    assert outcome.code == 0, outcome.err
    assert (ran / "exp/tiny/checkpoints/epoch_0003").is_dir()


def test_allow_drift_applies_the_new_arguments_permanently(audiozen, ran):
    change = ["--set", "optimizer.args.lr=1e-9", "--set", "trainer.args.max_epochs=3"]
    outcome = audiozen("run", "tiny.toml", "--resume", "--allow-drift", *change)
    assert "lr=1e-09" in outcome.err
    store = CheckpointStore(ran / "exp/tiny/checkpoints")
    assert store.load().state["optimizer"]["param_groups"][0]["lr"] == 1e-9
    assert "has changed" not in audiozen("run", "tiny.toml", "--resume", *change).err
    outcome = audiozen("run", "tiny.toml", "--resume", "--allow-drift", "--set", "optimizer.path=torch.optim.SGD")
    assert outcome.code == 0, outcome.err


def test_finetuning_starts_from_ckpt_path_and_resumes_from_its_own_checkpoint(audiozen, ran, monkeypatch):
    base = "exp/tiny/checkpoints/best"
    start = ["run", "tiny.toml", "--set", "meta.id=tuned", "-M", "finetune", "--resume", "--ckpt-path", base]
    with monkeypatch.context() as patched:
        patched.setattr(EnhancementTrainer, "training_step", lambda *_: os._exit)  # not a valid loss, so this raises
        assert audiozen(*start).code != 0
    store = CheckpointStore(ran / "exp/tuned/checkpoints")
    base = CheckpointStore(ran / "exp/tiny/checkpoints").load("best").state["model"]
    assert (store.load().epoch, difference(store.load().state["model"], base)) == (0, None)
    outcome = audiozen(*start)
    assert outcome.code == 0, outcome.err
    assert "resumed checkpoint=exp/tuned/checkpoints/epoch_0000" in outcome.err
    assert store.load().epoch == 2
    assert "max_epochs = 2 is reached" in audiozen(*start).err


def test_resuming_from_another_run_saves_a_checkpoint_immediately(audiozen, ran):
    shutil.copytree(ran / "exp/tiny", ran / "exp/other", symlinks=True)
    resume = ["run", "tiny.toml", "--set", "meta.id=other", "--resume"]
    outcome = audiozen(*resume, "--ckpt-path", "exp/tiny/checkpoints/epoch_0002")  # already at max_epochs
    assert outcome.code == 0, outcome.err
    assert "later checkpoints are now stale: they are kept, but this run no longer uses them" in outcome.err
    assert "checkpoints='epoch_0001, epoch_0002'" in outcome.err
    store = CheckpointStore(ran / "exp/other/checkpoints")
    assert [info.path.name for info in store.list() if not info.stale] == ["epoch_0002"]
    assert store.load().epoch == 2
    assert "max_epochs = 2 is reached" in audiozen(*resume).err


def test_run_with_only_damaged_checkpoints_is_neither_overwritten_nor_resumed(audiozen, ran):
    for path in (ran / "exp/tiny/checkpoints").glob("epoch_*/manifest.json"):
        path.write_text("{")
    outcome = audiozen("run", "tiny.toml")
    assert outcome.code == 2
    assert "`exp/tiny` already contains a run, so no new run was started and nothing was changed" in outcome.err
    outcome = audiozen("run", "tiny.toml", "--resume")
    assert outcome.code == 2
    assert "delete or move the checkpoints of this run to start over" in outcome.err


def test_second_run_in_a_folder_in_use_fails(audiozen, ran):
    with run_lock(ran / "exp/tiny"):
        outcome = audiozen("run", "tiny.toml")
    assert outcome.code == 2
    assert "is in use" in outcome.err


def test_harmless_change_is_logged_and_the_run_resumes(audiozen, ran):
    outcome = audiozen("run", "tiny.toml", "--resume", "--set", "trainer.args.max_epochs=3")
    assert outcome.code == 0
    assert "the TOML file has changed" in outcome.err
    assert "trainer.args.max_epochs" in outcome.err


def test_changed_package_version_is_logged_and_the_run_resumes(audiozen, ran, monkeypatch):
    monkeypatch.setattr(resuming, "current_versions", lambda: {"torch": "9.9", "python": platform.python_version()})
    outcome = audiozen("run", "tiny.toml", "--resume")
    assert outcome.code == 0
    assert "the version of torch has changed since the checkpoint was saved, so results may differ" in outcome.err
    assert f"before={torch.__version__} now=9.9" in outcome.err
    assert "the version of python has changed" not in outcome.err


def test_kernels_of_numba_that_are_new_are_logged(audiozen, ran, monkeypatch):
    monkeypatch.setattr(checkpoint, "numba_version", lambda: "0.99")
    outcome = audiozen("run", "tiny.toml", "--resume")
    assert outcome.code == 0
    assert "the version of numba has changed since the checkpoint was saved, so results may differ" in outcome.err


def test_resuming_without_a_checkpoint_starts_from_the_beginning(audiozen, project):
    assert audiozen("run", "tiny.toml", "--set", "meta.id=plain").code == 0
    outcome = audiozen("run", "tiny.toml", "--resume")
    assert outcome.code == 0
    assert "exp/tiny has no checkpoint yet, so the training starts from the beginning" in outcome.err
    assert "has no checkpoint yet" in (project / "exp/tiny/tiny.log").read_text()
    plain, resumed = (
        CheckpointStore(project / "exp" / name / "checkpoints").load().state for name in ("plain", "tiny")
    )
    assert difference(plain["model"], resumed["model"]) is None


def test_resume_deletes_partial_files_of_dead_processes_only(audiozen, ran):
    dead, mine = ran / "exp/tiny/.metrics.jsonl.4194305-12ab.partial", ran / f"exp/tiny/.a.{os.getpid()}-12ab.partial"
    for path in (dead, mine):
        path.write_text("half")
    assert audiozen("run", "tiny.toml", "--resume").code == 0
    assert (dead.exists(), mine.exists()) == (False, True)


def test_run_that_cannot_be_built_creates_no_folder(audiozen, project):
    outcome = audiozen("run", "tiny.toml", "--set", "dataset.args.noisy_dir=data/missing")
    assert outcome.code == 2
    assert "data/missing" in outcome.err
    assert not (project / "exp").exists()


@pytest.mark.parametrize("arguments", [["--resume"], ["-M", "finetune", "--resume"]])
def test_error_names_the_process_that_uses_the_folder(audiozen, ran, arguments):
    with run_lock(ran / "exp/tiny"):
        outcome = audiozen("run", "tiny.toml", *arguments)
    assert outcome.code == 2
    assert f"is in use: process {os.getpid()} on " in outcome.err


def test_finished_run_deletes_its_lock(ran):
    assert not (ran / "exp/tiny/run.lock.json").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_sets_the_exit_code_and_the_run_can_be_resumed(audiozen, project, monkeypatch, number, code):
    @hookimpl
    def on_epoch_start(self, epoch):
        if epoch == 2:
            signal.raise_signal(number)

    with monkeypatch.context() as patched:
        patched.setattr(Signals, "on_epoch_start", on_epoch_start, raising=False)
        outcome = audiozen("run", "tiny.toml")
    assert outcome.code == code
    assert f"stopped by {number.name}" in outcome.err
    assert (project / "exp/tiny/checkpoints/latest").resolve().name == "epoch_0002_step_0000003"
    assert audiozen("run", "tiny.toml", "--resume").code == 0


@pytest.fixture
def broken(project):
    """Writes an audio file with a valid header and broken samples, so only reading the samples fails."""
    shutil.rmtree(project / "data")
    write_pairs(project / "data", names="clip_{}.flac")
    path = project / "data/noisy/clip_1.flac"
    content = path.read_bytes()
    path.write_bytes(content[:1000] + bytes(len(content) - 1000))
    return path


@pytest.mark.parametrize("workers", [0, 1])
def test_error_names_the_broken_file(audiozen, broken, workers):
    outcome = audiozen("run", "tiny.toml", "--set", f"+dataset.dataloader.num_workers={workers}")
    assert outcome.code == 2
    assert "clip_1.flac" in outcome.err
    assert "Traceback" not in outcome.err


SKIP = ["--set", "+trainer.args.on_bad_data=skip"]


@pytest.mark.parametrize("content", [b"", b"no audio", b"RIFF"], ids=["empty", "text", "cut"])
def test_each_data_set_skips_and_reports_a_file_that_is_not_audio(audiozen, project, content):
    (project / "data/noisy/clip_1.wav").write_bytes(content)
    outcome = audiozen("run", "tiny.toml", "-M", "train", "test", *SKIP)
    assert outcome.code == 0, outcome.err
    # Once for the training and its validation, and once whenever the test data is built: before the training, to find
    # mistakes early, and in the test.
    assert outcome.err.count("an unreadable sample is skipped") == 3
    assert outcome.err.count("so_far=1") == 3
    assert re.search("unreadable samples of the training data are skipped .*count=1", outcome.err)
    assert re.search("unreadable samples of the validation data are skipped .*count=1", outcome.err)
    assert len(re.findall("unreadable samples of the test data are skipped .*count=1", outcome.err)) == 2
    assert "clip_1.wav" in outcome.err
    log = (project / "exp/tiny/tiny.log").read_text()
    assert "unreadable samples of the test data are skipped" in log
    (scores,) = (project / "exp/tiny/test").glob("*/0/scores.json")
    assert json.loads(scores.read_text())["files"] == 3
    assert "clip_1.wav" in audiozen("run", "tiny.toml", "-M", "test").err  # an error, because this run does not skip
    outcome = audiozen("run", "tiny.toml", "--resume", *SKIP, "--set", "+trainer.args.max_bad_data=0")
    assert outcome.code == 2
    assert "more than `max_bad_data = 0`" in outcome.err


def test_resume_logs_a_change_in_the_skipped_files(audiozen, project):
    assert audiozen("run", "tiny.toml", *SKIP).code == 0
    again = ["run", "tiny.toml", "--resume", *SKIP, "--set", "trainer.args.max_epochs=3"]
    (project / "data/noisy/clip_1.wav").write_bytes(b"no audio")
    log = audiozen(*again).err
    assert "the data sets don't skip the same files as when the checkpoint was saved" in log
    assert "skip the same files" not in audiozen(*again).err


def test_evaluation_reports_skipped_samples(audiozen, broken):
    outcome = audiozen("run", "tiny.toml", "-M", "train", "test", *SKIP)
    assert outcome.code == 0, outcome.err
    assert re.search("unreadable samples of the validation run are skipped .*count=1", outcome.err)
    assert re.search("unreadable samples of the test run are skipped .*count=1", outcome.err)


def test_skipping_a_broken_file_counts_towards_max_bad_data(audiozen, broken):
    skip = ["--set", "+trainer.args.on_bad_data=skip"]
    outcome = audiozen("run", "tiny.toml", *skip)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("an unreadable sample is skipped") == 1
    (broken.parent.parent.parent / "exp").rename("old")
    outcome = audiozen("run", "tiny.toml", *skip, "--set", "+trainer.args.max_bad_data=0")
    assert outcome.code == 2
    assert "more than `max_bad_data = 0`" in outcome.err
