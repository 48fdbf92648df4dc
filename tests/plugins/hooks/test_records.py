import errno
import json
import math
import os

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.tensorflow_stub.io.gfile import LocalFileSystem
from tensorboard.summary.writer import event_file_writer

from audiozen_core.errors import MissingExtraError, RunError
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.logging import log_file
from audiozen_core.storage import append
from audiozen_plugins.hooks import metrics_jsonl
from audiozen_plugins.hooks.metrics_jsonl import MetricsJsonl
from audiozen_plugins.hooks.progress import ProgressBar
from audiozen_plugins.hooks.tensorboard import TensorBoard
from tests.tiny_training import TinyTrainer, make_loader, make_trainer, state_of


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(autouse=True)
def _files_in_order(monkeypatch):
    """Starts to number the files of TensorBoard. It reads those of one second by their names: 10 comes before 9."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


def test_each_record_is_a_json_line(tmp_path):
    trainer = make_trainer(tmp_path, max_epochs=2, log_interval=5, hooks={"jsonl": MetricsJsonl()})
    trainer.train(make_loader(), [make_loader()])
    records = lines(tmp_path)
    assert [(record["epoch"], record["step"]) for record in records] == [(1, 5), (1, 5), (2, 10), (2, 10)]
    assert "step/loss" in records[0]
    assert {"train/loss", "validate/score"} <= records[1].keys()


def test_a_number_that_is_not_finite_becomes_null(tmp_path):
    class Scripted(TinyTrainer):
        def validation_epoch_end(self, outputs):
            return math.nan

    make_trainer(tmp_path, cls=Scripted, max_epochs=1, hooks={"jsonl": MetricsJsonl()}).train(
        make_loader(), [make_loader()]
    )
    assert lines(tmp_path)[-1]["validate/score"] is None


def test_resumed_run_overwrites_repeated_and_incomplete_records(tmp_path):
    make_trainer(tmp_path, max_epochs=2, hooks={"jsonl": MetricsJsonl()}).train(make_loader())
    first = lines(tmp_path)[0]
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "st')
    trainer = make_trainer(tmp_path, max_epochs=2, hooks={"jsonl": MetricsJsonl()})
    trainer.progress.epoch, trainer.progress.step = 1, 5
    trainer.train(make_loader())
    records = lines(tmp_path)
    assert records[0] == first
    assert [record["epoch"] for record in records] == [1, 2]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_metrics_jsonl_that_is_a_pipe_or_folder_is_an_error(tmp_path, make):
    make(tmp_path / "metrics.jsonl")
    with pytest.raises(RunError, match=r"metrics.jsonl` is not a regular file"):
        make_trainer(tmp_path, hooks={"jsonl": MetricsJsonl()}).train(make_loader())


def test_tensorboard_records_the_scalars_and_the_config(tmp_path):
    trainer = make_trainer(tmp_path, max_epochs=3, hooks={"tensorboard": TensorBoard()})
    trainer.config_text = "[meta]\nseed = 0"
    trainer.train(make_loader(), [make_loader()])
    events = EventAccumulator(str(tmp_path / "tb_log"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [5, 10, 15]
    assert len(events.Scalars("validate/score")) == 3
    (text,) = events.Tensors("config/text_summary")
    assert b"seed = 0" in text.tensor_proto.string_val[0]


def test_a_missing_tensorboard_is_an_error_only_if_it_is_required(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"tensorboard") as error:
        TensorBoard()
    assert error.value.remedy == "pip install 'audiozen[tensorboard]'"
    make_trainer(tmp_path, max_epochs=1, hooks={"tb": TensorBoard(required=False)}).train(make_loader())
    assert not (tmp_path / "tb_log").exists()


class FullFor:
    """Makes a write function fail as on a full disk, from one epoch to another."""

    phase = "precision"

    def __init__(self, monkeypatch, module, name, epochs):
        self.monkeypatch, self.module, self.name, self.epochs = monkeypatch, module, name, epochs

    @hookimpl
    def on_epoch_start(self, epoch):
        if epoch == self.epochs[0]:
            self.real = getattr(self.module, self.name)
            self.monkeypatch.setattr(self.module, self.name, self.fail)
        if epoch == self.epochs[1]:
            self.monkeypatch.setattr(self.module, self.name, self.real)

    def fail(self, *_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_tensorboard_loses_only_the_epochs_with_a_full_disk(tmp_path, monkeypatch, capsys):
    full = FullFor(monkeypatch, LocalFileSystem, "_write", (2, 4))
    trainer = make_trainer(tmp_path, max_epochs=5, log_interval=1, hooks={"full": full, "tb": TensorBoard()})
    trainer.train(make_loader())
    assert trainer.progress.epoch == 5
    assert "TensorBoard's log can't be written" in capsys.readouterr().err
    events = EventAccumulator(str(tmp_path / "tb_log"))
    events.Reload()
    steps = [event.step for event in events.Scalars("train/loss")]
    assert steps[-1] == 25
    assert not {10, 15} & set(steps)


@pytest.mark.parametrize("full", [False, True])
def test_rollback_removes_later_records_unless_the_disk_is_full(tmp_path, monkeypatch, capsys, full):
    jsonl = MetricsJsonl()
    trainer = make_trainer(tmp_path, max_epochs=3, hooks={"jsonl": jsonl})
    jsonl.on_run_start(trainer, "train")
    for step in (1, 2, 3):
        jsonl.on_log(trainer, {"step/loss": 1.0}, step, 1)

    def fail(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        if full:
            patched.setattr(metrics_jsonl, "write_whole", fail)
        trainer.progress.step = 1
        jsonl.on_rollback(trainer)
    jsonl.on_log(trainer, {"step/loss": 2.0}, 2, 1)
    jsonl.on_teardown(trainer)
    assert [line["step"] for line in lines(tmp_path)] == ([1, 2, 3, 2] if full else [1, 2])
    assert ("can't be written" in capsys.readouterr().err) == full


def test_each_checkpoint_syncs_the_records_to_disk(tmp_path, monkeypatch):
    synced = []

    def sync(descriptor):
        synced.append(len((tmp_path / "metrics.jsonl").read_text().splitlines()))

    monkeypatch.setattr(append.os, "fsync", sync)

    class Saves:
        phase = "persist"

        @hookimpl
        def on_epoch_end(self, trainer):
            state_of(trainer)

    trainer = make_trainer(tmp_path, max_epochs=2, log_interval=0, hooks={"jsonl": MetricsJsonl(), "saves": Saves()})
    trainer.train(make_loader())
    assert synced == [1, 2]


def test_each_epoch_logs_one_line_without_a_terminal(tmp_path, capsys):
    with log_file(tmp_path / "run.log"):
        trainer = make_trainer(tmp_path, max_epochs=2, hooks={"progress": ProgressBar(bars=False, line_seconds=1e6)})
        trainer.train(make_loader(), [make_loader()])
    events = [json.loads(line) for line in (tmp_path / "run.log").read_text().splitlines()]
    epochs = [event for event in events if event["event"].startswith("epoch ")]
    assert [event["event"] for event in epochs] == ["epoch 1/2", "epoch 2/2"]
    assert {"train/loss", "validate/score", "lr", "left", "time", "level"} <= epochs[0].keys()
    assert "epoch 1/2" in capsys.readouterr().err


def test_long_epoch_prints_progress_lines(capsys):
    make_trainer(max_epochs=1, hooks={"progress": ProgressBar(bars=False, line_seconds=0)}).train(make_loader())
    assert "epoch 1, batch 3/5: step 3  loss" in capsys.readouterr().err


def test_resume_at_the_end_of_an_epoch_does_not_repeat_records(tmp_path):
    def lines():
        return [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]

    whole = make_trainer(tmp_path, hooks={"metrics": MetricsJsonl()}, max_epochs=2, log_interval=1)
    whole.train(make_loader())
    before = [(line["step"], line["epoch"]) for line in lines()]
    # The checkpoint is saved after the last batch of the second epoch, but before the end of the epoch.
    again = make_trainer(tmp_path, hooks={"metrics": MetricsJsonl()}, max_epochs=2, log_interval=1)
    whole.progress.reopen_epoch()
    again.load_checkpoint(state_of(whole))
    assert (again.progress.epoch, again.progress.batch) == (1, 5)
    again.train(make_loader())
    assert [(line["step"], line["epoch"]) for line in lines()] == before
    assert len(before) == 12


def scalars(folder, name):
    events = EventAccumulator(str(folder))
    events.Reload()
    return [event.step for event in events.Scalars(name)]


def test_resume_and_rollback_keep_the_records_of_evaluations(tmp_path):
    def trainer(**args):
        return make_trainer(tmp_path, hooks={"jsonl": MetricsJsonl(), "board": TensorBoard()}, log_interval=1, **args)

    first = trainer(max_epochs=2)
    first.train(make_loader(), [make_loader()])
    later = state_of(first)
    evaluation = trainer()
    evaluation.load_checkpoint(later)
    evaluation.checkpoint_name = "latest_epoch_0002"
    evaluation.test([make_loader()])
    evaluation.validate([make_loader()])
    kept = [line for line in lines(tmp_path) if "checkpoint" in line]
    assert [(line["step"], "test/error" in line) for line in kept] == [(10, True), (10, False)]
    resumed = trainer(max_epochs=1)
    resumed.progress.epoch, resumed.progress.step = 0, 3
    jsonl, board = MetricsJsonl(), TensorBoard()
    for plugin in (jsonl, board):
        plugin.on_run_start(resumed, "train")
    assert [line for line in lines(tmp_path) if "checkpoint" in line] == kept
    # The records that the training will repeat are gone.
    assert [line["step"] for line in lines(tmp_path) if "checkpoint" not in line] == [1, 2, 3]
    resumed.progress.step = 1
    for plugin in (jsonl, board):
        plugin.on_rollback(resumed)
        plugin.on_teardown(resumed)
    assert [line for line in lines(tmp_path) if "checkpoint" in line] == kept
    assert [line["step"] for line in lines(tmp_path) if "checkpoint" not in line] == [1]
    assert scalars(tmp_path / "tb_log", "step/loss") == [1]
    assert scalars(tmp_path / "tb_log/evaluation", "test/error") == [10]
