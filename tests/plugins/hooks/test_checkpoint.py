"""When the checkpoint hook saves, and what it does if a save fails."""

import shutil
import threading
from collections import namedtuple

import pytest
import torch

from audiozen_core.checkpoint import store
from audiozen_core.checkpoint.errors import CheckpointWriteError, UnstorableStateError
from audiozen_core.checkpoint.format.checkpoint import PackedState
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.errors import HookError
from audiozen_core.hooks.marker import hookimpl
from audiozen_plugins.hooks.checkpoint import Checkpoint
from tests.tiny_training import make_loader, make_trainer, weights_of


def names(folder):
    return [info.path.name for info in CheckpointStore(folder / "checkpoints").list()]


def train(folder, *more, hook=None, **args):
    hooks = {"checkpoint": hook or Checkpoint(), **{type(one).__name__: one for one in more}}
    trainer = make_trainer(folder, hooks=hooks, **{"max_num_checkpoints": 99, **args})
    trainer.train(make_loader())
    return trainer


class FailingSaves:
    """Makes the given calls of `CheckpointStore.save` fail, counted from 1."""

    def __init__(self, monkeypatch, *failing):
        self.count, self.failing = 0, failing
        self.save = CheckpointStore.save

        def save(*args, **how):
            self.count += 1
            if self.count in self.failing:
                raise CheckpointWriteError("the disk is full")
            return self.save(*args, **how)

        monkeypatch.setattr(CheckpointStore, "save", save)


@pytest.mark.parametrize("background", [True, False])
def test_failed_saves_are_logged_and_retried_at_the_next_interval(tmp_path, monkeypatch, capsys, background):
    FailingSaves(monkeypatch, 1, 3, 4)
    trainer = train(tmp_path, max_epochs=6, save_ckpt_async=background)
    assert trainer.progress.epoch == 6
    assert names(tmp_path) == ["epoch_0002", "epoch_0005", "epoch_0006"]
    log = capsys.readouterr().err
    assert log.count("tries again at the next interval") == 3
    assert "the disk is full" in log


@pytest.mark.parametrize("background", [True, False])
def test_three_failed_saves_in_a_row_stop_the_run(tmp_path, monkeypatch, background):
    saves = FailingSaves(monkeypatch, 2, 3, 4)
    with pytest.raises(CheckpointWriteError, match="the disk is full"):
        train(tmp_path, max_epochs=9, save_ckpt_async=background)
    assert saves.count == 4
    assert names(tmp_path) == ["epoch_0001"]


@pytest.mark.parametrize("background", [True, False])
def test_failed_last_save_is_retried_once_and_then_raises(tmp_path, monkeypatch, background):
    FailingSaves(monkeypatch, 3)
    train(tmp_path / "once", max_epochs=3, save_ckpt_async=background)
    assert names(tmp_path / "once")[-1] == "epoch_0003"
    FailingSaves(monkeypatch, 3, 4)
    with pytest.raises(CheckpointWriteError):
        train(tmp_path / "twice", max_epochs=3, save_ckpt_async=background)
    assert names(tmp_path / "twice") == ["epoch_0001", "epoch_0002"]


def test_checkpoint_is_not_saved_while_the_disk_has_too_little_space(tmp_path, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")
    free = iter([1 << 30, 100, 1 << 30])
    real = shutil.disk_usage
    monkeypatch.setattr(store.shutil, "disk_usage", lambda path: usage(*real(path)[:2], next(free)))
    train(tmp_path, max_epochs=3, save_ckpt_async=False)
    assert names(tmp_path) == ["epoch_0001", "epoch_0003"]
    assert "has no space" in capsys.readouterr().err


@pytest.mark.parametrize("background", [True, False])
def test_request_saves_again_after_a_failed_save_at_the_same_step(tmp_path, monkeypatch, background):
    FailingSaves(monkeypatch, 1)

    class Requests:
        phase = "persist"

        @hookimpl
        def on_training_step_end(self, trainer):
            if trainer.progress.step == 2:
                hook._writer.wait()
                hook._report(trainer)
                trainer.hooks.on_checkpoint_request(trainer=trainer, reason="test")

    hook = Checkpoint()
    options = {"max_epochs": 1, "save_ckpt_interval_steps": 2, "save_ckpt_async": background}
    train(tmp_path, Requests(), hook=hook, **options)
    assert names(tmp_path) == ["epoch_0001_step_0000002", "epoch_0001_step_0000004", "epoch_0001"]


def test_step_interval_saves_checkpoints_within_an_epoch(tmp_path):
    train(tmp_path, max_epochs=2, save_ckpt_interval_steps=3)
    assert names(tmp_path) == [
        "epoch_0001_step_0000003", "epoch_0001", "epoch_0002_step_0000006", "epoch_0002_step_0000009", "epoch_0002"
    ]  # fmt: skip


def test_interval_in_minutes_saves_at_the_first_step_after_it_has_passed(tmp_path):
    class Clock:
        """Advances by 40 seconds at each call."""

        now = 0

        def __call__(self):
            self.now += 40
            return self.now

    train(tmp_path, hook=Checkpoint(clock=Clock()), max_epochs=1, save_ckpt_minutes=2)
    assert names(tmp_path) == ["epoch_0001_step_0000003", "epoch_0001"]


def test_checkpoints_are_saved_only_after_an_accumulation_is_complete(tmp_path):
    seen = []

    class Batches:
        @hookimpl
        def on_checkpoint_save(self, trainer):
            seen.append(trainer.progress.batch)

    train(tmp_path, Batches(), max_epochs=1, save_ckpt_interval_steps=1, gradient_accumulation_steps=2)
    assert seen == [2, 4, 5, 0]


def test_mid_epoch_checkpoint_does_not_replace_the_best(tmp_path):
    hook = Checkpoint()
    trainer = make_trainer(tmp_path, hooks={"checkpoint": hook}, max_epochs=2, save_ckpt_interval_steps=2)
    trainer.train(make_loader(), [make_loader()])
    best = CheckpointStore(tmp_path / "checkpoints").best.name
    assert best == f"epoch_{trainer.progress.best_epoch:04d}"


class SlowDisk:
    """Delays every save until the run has reached a given step."""

    def __init__(self, monkeypatch, until):
        self.until, self.go = until, threading.Event()
        save = CheckpointStore.save

        def wait_and_save(*args, **how):
            self.go.wait(30)
            return save(*args, **how)

        monkeypatch.setattr(CheckpointStore, "save", wait_and_save)

    @hookimpl
    def on_training_step_end(self, trainer):
        if trainer.progress.step == self.until:
            self.go.set()


def _weights_saved(tmp_path, monkeypatch, until=8):
    """Returns the weights after the first epoch, and the weights in its checkpoint, written during the second epoch."""
    first = train(tmp_path / "first", max_epochs=1)
    disk = SlowDisk(monkeypatch, until)
    train(tmp_path / "background", disk, max_epochs=2)
    monkeypatch.undo()
    loaded = CheckpointStore(tmp_path / "background" / "checkpoints").load(
        tmp_path / "background/checkpoints/epoch_0001"
    )
    return weights_of(first), torch.cat([weight.flatten() for weight in loaded.state["model"].values()])


def test_background_save_stores_the_state_at_the_moment_of_the_save(tmp_path, monkeypatch):
    before, saved = _weights_saved(tmp_path, monkeypatch)
    assert torch.equal(before, saved)


def test_background_save_without_a_copy_stores_a_later_state(tmp_path, monkeypatch):
    monkeypatch.setattr(PackedState, "clone", lambda self, reuse: self)
    before, saved = _weights_saved(tmp_path, monkeypatch)
    assert not torch.equal(before, saved)


def test_bug_in_a_background_save_stops_the_run_at_the_next_step(tmp_path, monkeypatch):
    def broken(*args, **how):
        raise ZeroDivisionError

    monkeypatch.setattr(CheckpointStore, "save", broken)
    hook = Checkpoint()
    steps = []

    class Steps:
        phase = "precision"

        @hookimpl
        def on_training_step_end(self, trainer):
            hook._writer.wait()
            steps.append(trainer.progress.step)

    with pytest.raises(Exception, match="ZeroDivisionError"):
        train(tmp_path, Steps(), hook=hook, max_epochs=3)
    assert steps[-1] == 6


def test_error_for_unstorable_state_names_the_hook(tmp_path):
    class Odd:
        def state_dict(self):
            return {"a": object()}

        def load_state_dict(self, state):
            pass

    with pytest.raises(UnstorableStateError, match=r"hook plugin `Odd` .*`state_dict\(\)\['a'\]`"):
        train(tmp_path, Odd(), max_epochs=2)


class Leaves:
    """Ends the run with an error while a checkpoint is being written."""

    def __init__(self, error, in_teardown):
        self.error, self.in_teardown = error, in_teardown

    @hookimpl
    def on_epoch_start(self, epoch):
        if epoch == 2:
            raise self.error

    @hookimpl
    def on_teardown(self):  # called before that of the checkpoints
        self.in_teardown()


@pytest.mark.parametrize(("error", "waits"), [(OSError("no data"), True), (KeyboardInterrupt(), False)])
def test_end_of_a_run_waits_for_a_save_unless_ctrl_c_was_pressed_twice(tmp_path, monkeypatch, error, waits):
    released, save = threading.Event(), CheckpointStore.save

    def slow(*args, **how):
        assert released.wait(60)
        return save(*args, **how)

    monkeypatch.setattr(CheckpointStore, "save", slow)
    hook = Checkpoint()
    with pytest.raises(HookError if waits else KeyboardInterrupt):
        train(tmp_path, Leaves(error, released.set if waits else lambda: None), hook=hook, max_epochs=3)
    assert names(tmp_path) == ["epoch_0001"] * waits
    released.set()
    hook._writer.wait()
    assert names(tmp_path) == ["epoch_0001"]
