"""When checkpoints are saved, and what happens if a save fails."""

import shutil
import threading
from collections import namedtuple

import pytest
import torch

from audiozen_core.checkpoint import CheckpointStore, CheckpointWriteError, UnstorableStateError, store
from audiozen_core.checkpoint.format.checkpoint import PackedState
from audiozen_core.hooks.specs import hookimpl
from audiozen_plugins.hooks.checkpoint import Checkpoint
from tests.tiny_training import make_loader, make_trainer, weights_of


def names(folder):
    return [info.path.name for info in CheckpointStore(folder / "checkpoints").list()]


def trained(folder, *more, hook=None, **args):
    hooks = {"checkpoint": hook or Checkpoint(), **{type(one).__name__: one for one in more}}
    trainer = make_trainer(folder, hooks=hooks, **{"max_num_checkpoints": 99, **args})
    trainer.train(make_loader())
    return trainer


class Disk:
    """Refuses the saves of the given numbers, counted from 1."""

    def __init__(self, monkeypatch, *refused):
        self.count, self.refused = 0, refused
        self.save = CheckpointStore.save

        def save(*args, **how):
            self.count += 1
            if self.count in self.refused:
                raise CheckpointWriteError("the disk is full")
            return self.save(*args, **how)

        monkeypatch.setattr(CheckpointStore, "save", save)


@pytest.mark.parametrize("aside", [True, False])
def test_a_failed_save_does_not_end_the_run_which_warns_and_tries_again(tmp_path, monkeypatch, capsys, aside):
    Disk(monkeypatch, 1, 3, 4)
    trainer = trained(tmp_path, max_epochs=6, save_ckpt_async=aside)
    assert trainer.progress.epoch == 6
    assert names(tmp_path) == ["epoch_0002", "epoch_0005", "epoch_0006"]
    told = capsys.readouterr().err
    assert told.count("tries again at the next interval") == 3
    assert "the disk is full" in told


@pytest.mark.parametrize("aside", [True, False])
def test_three_failed_saves_in_a_row_stop_the_run(tmp_path, monkeypatch, aside):
    disk = Disk(monkeypatch, 2, 3, 4)
    with pytest.raises(CheckpointWriteError, match="the disk is full"):
        trained(tmp_path, max_epochs=9, save_ckpt_async=aside)
    assert disk.count == 4
    assert names(tmp_path) == ["epoch_0001"]


@pytest.mark.parametrize("aside", [True, False])
def test_a_last_checkpoint_that_fails_twice_is_an_error(tmp_path, monkeypatch, aside):
    Disk(monkeypatch, 3)
    trained(tmp_path / "once", max_epochs=3, save_ckpt_async=aside)
    assert names(tmp_path / "once")[-1] == "epoch_0003"
    Disk(monkeypatch, 3, 4)
    with pytest.raises(CheckpointWriteError):
        trained(tmp_path / "twice", max_epochs=3, save_ckpt_async=aside)
    assert names(tmp_path / "twice") == ["epoch_0001", "epoch_0002"]


def test_free_space_is_checked_before_a_save(tmp_path, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")
    free = iter([1 << 30, 100, 1 << 30])
    real = shutil.disk_usage
    monkeypatch.setattr(store.shutil, "disk_usage", lambda path: usage(*real(path)[:2], next(free)))
    trained(tmp_path, max_epochs=3, save_ckpt_async=False)
    assert names(tmp_path) == ["epoch_0001", "epoch_0003"]
    assert "has no space" in capsys.readouterr().err


@pytest.mark.parametrize("aside", [True, False])
def test_a_request_repeats_a_save_that_failed_at_the_same_step(tmp_path, monkeypatch, aside):
    Disk(monkeypatch, 1)

    class waits:
        phase = "persist"

        @hookimpl
        def on_training_step_end(self, trainer):
            if trainer.progress.step == 2:
                hook._writer.wait()
                hook._report(trainer)
                trainer.hooks.on_checkpoint_request(trainer=trainer, reason="test")

    hook = Checkpoint()
    options = {"max_epochs": 1, "save_ckpt_interval_steps": 2, "save_ckpt_async": aside}
    trained(tmp_path, waits(), hook=hook, **options)
    assert names(tmp_path) == ["epoch_0001_step_0000002", "epoch_0001_step_0000004", "epoch_0001"]


def test_an_interval_of_steps_saves_during_an_epoch(tmp_path):
    trained(tmp_path, max_epochs=2, save_ckpt_interval_steps=3)
    assert names(tmp_path) == [
        "epoch_0001_step_0000003", "epoch_0001", "epoch_0002_step_0000006", "epoch_0002_step_0000009", "epoch_0002"
    ]  # fmt: skip


def test_an_interval_of_minutes_saves_at_the_first_step_after_it(tmp_path):
    class Clock:
        """Moves on by 40 seconds whenever somebody reads it."""

        now = 0

        def __call__(self):
            self.now += 40
            return self.now

    trained(tmp_path, hook=Checkpoint(clock=Clock()), max_epochs=1, save_ckpt_minutes=2)
    assert names(tmp_path) == ["epoch_0001_step_0000003", "epoch_0001"]


def test_no_checkpoint_is_saved_while_gradients_accumulate(tmp_path):
    seen = []

    class Batches:
        @hookimpl
        def on_checkpoint_save(self, trainer):
            seen.append(trainer.progress.batch)

    trained(tmp_path, Batches(), max_epochs=1, save_ckpt_interval_steps=1, gradient_accumulation_steps=2)
    assert seen == [2, 4, 5, 0]


def test_a_checkpoint_during_the_epoch_after_the_best_one_is_not_the_best(tmp_path):
    hook = Checkpoint()
    trainer = make_trainer(tmp_path, hooks={"checkpoint": hook}, max_epochs=2, save_ckpt_interval_steps=2)
    trainer.train(make_loader(), [make_loader()])
    best = CheckpointStore(tmp_path / "checkpoints").best.name
    assert best == f"epoch_{trainer.progress.best_epoch:04d}"


class SlowDisk:
    """Lets a write begin only when the training has done a given number of steps."""

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
    """The weights after the first epoch as they were, and as they were saved while the second one ran."""
    first = trained(tmp_path / "first", max_epochs=1)
    disk = SlowDisk(monkeypatch, until)
    trained(tmp_path / "aside", disk, max_epochs=2)
    monkeypatch.undo()
    loaded = CheckpointStore(tmp_path / "aside" / "checkpoints").load(tmp_path / "aside/checkpoints/epoch_0001")
    return weights_of(first), torch.cat([weight.flatten() for weight in loaded.state["model"].values()])


def test_a_background_save_holds_the_state_at_the_moment_of_the_save(tmp_path, monkeypatch):
    before, saved = _weights_saved(tmp_path, monkeypatch)
    assert torch.equal(before, saved)


def test_without_the_copy_a_background_save_would_hold_a_later_state(tmp_path, monkeypatch):
    monkeypatch.setattr(PackedState, "clone", lambda self, reuse: self)
    before, saved = _weights_saved(tmp_path, monkeypatch)
    assert not torch.equal(before, saved)


def test_a_bug_in_a_background_save_ends_the_run_at_the_next_step(tmp_path, monkeypatch):
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
        trained(tmp_path, Steps(), hook=hook, max_epochs=3)
    assert steps[-1] == 6


def test_state_that_cannot_be_stored_is_an_error_at_the_save_itself(tmp_path):
    class Odd:
        def state_dict(self):
            return {"a": object()}

        def load_state_dict(self, state):
            pass

    with pytest.raises(UnstorableStateError, match="hook_Odd"):
        trained(tmp_path, Odd(), max_epochs=2)
