"""What a signal does, whenever it arrives."""

import math
import signal

import pytest
import torch

from audiozen_core.checkpoint import CheckpointStore
from audiozen_core.errors import Interrupted, RunError
from audiozen_core.hooks.specs import hookimpl
from audiozen_plugins.hooks.checkpoint import Checkpoint
from audiozen_plugins.hooks.signals import Signals
from tests.tiny_training import make_loader, make_trainer, weights_of

TERM, INT, USR1 = signal.SIGTERM, signal.SIGINT, signal.SIGUSR1


class Sends:
    """Raises signals at one moment of the training: in a step, in a validation, or at an epoch's end."""

    phase = "precision"

    def __init__(self, *numbers, step=None, validation=None, epoch=None):
        self.numbers, self.step, self.validation, self.epoch = numbers, step, validation, epoch
        self.seen = 0

    def send(self):
        numbers, self.numbers = self.numbers, ()
        for number in numbers:
            signal.raise_signal(number)

    @hookimpl
    def on_training_step_start(self, trainer):
        if trainer.progress.step == self.step:
            self.send()

    @hookimpl
    def on_evaluation_step_end(self, trainer):
        torch.rand(3)
        if trainer.progress.epoch == self.validation:
            self.send()

    @hookimpl
    def on_epoch_end(self, epoch):
        if epoch == self.epoch:
            self.send()


def run(folder, *sent, resume=False, signals=None, **moment):
    hooks = {"checkpoint": Checkpoint(), "signals": signals or Signals(), "sends": Sends(*sent, **moment)}
    trainer = make_trainer(folder, hooks=hooks, max_epochs=3, gradient_accumulation_steps=2)
    if resume:
        loaded = CheckpointStore(folder / "checkpoints").load()
        trainer.load_checkpoint(loaded.state)
    trainer.train(make_loader(), [make_loader(shuffle=False)])
    return trainer


MOMENTS = [{"step": 0}, {"step": 4}, {"step": 8}, {"validation": 1}, {"validation": 3}, {"epoch": 1}, {"epoch": 3}]


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
@pytest.mark.parametrize(("number", "code"), [(TERM, 143), (INT, 130), (signal.SIGHUP, 129)])
def test_a_signal_lets_the_step_finish_saves_the_state_and_a_resumed_run_ends_the_same(tmp_path, number, code, moment):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as stop:
        run(tmp_path / "stopped", number, **moment)
    assert stop.value.exit_code == code
    assert signal.getsignal(number) is before
    resumed = run(tmp_path / "stopped", resume=True)
    whole = run(tmp_path / "whole")
    assert torch.equal(weights_of(resumed), weights_of(whole))
    assert resumed.progress == whole.progress
    assert torch.equal(torch.get_rng_state(), whole.checkpoint()["rng"]["torch"])


def test_a_run_stopped_in_its_last_validation_repeats_it_when_resumed(tmp_path):
    def train(resume, *sent):
        hooks = {"checkpoint": Checkpoint(), "signals": Signals(), "sends": Sends(*sent, validation=1)}
        trainer = make_trainer(tmp_path, hooks=hooks, max_steps=3)
        if resume:
            trainer.load_checkpoint(CheckpointStore(tmp_path / "checkpoints").load().state)
        trainer.train(make_loader(), [make_loader(shuffle=False)])
        return trainer

    with pytest.raises(Interrupted):
        train(False, TERM)
    trainer = train(True)
    assert (trainer.progress.step, trainer.progress.epoch, trainer.progress.best_epoch) == (3, 1, 1)


def test_a_signal_during_accumulation_lets_the_step_finish_first(tmp_path):
    with pytest.raises(Interrupted):
        run(tmp_path, TERM, step=0)
    (name,) = [info.path.name for info in CheckpointStore(tmp_path / "checkpoints").list()]
    assert name == "epoch_0001_step_0000001"


def test_under_nohup_a_closed_terminal_does_not_end_the_run(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run(tmp_path, signal.SIGHUP, step=1).progress.epoch == 3
    finally:
        signal.signal(signal.SIGHUP, before)


def test_usr1_saves_a_checkpoint_and_the_run_continues(tmp_path):
    trainer = run(tmp_path, USR1, step=1)
    assert trainer.progress.epoch == 3
    assert "epoch_0001_step_0000002" in [info.path.name for info in CheckpointStore(tmp_path / "checkpoints").list()]
    assert torch.equal(weights_of(trainer), weights_of(run(tmp_path / "whole")))


def test_a_second_ctrl_c_stops_at_once_without_saving(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, INT, INT, step=1)
    assert CheckpointStore(tmp_path / "checkpoints").list() == []


def test_a_second_ctrl_c_stops_at_once_even_with_another_signal_in_between(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, INT, TERM, INT, step=1)
    assert CheckpointStore(tmp_path / "checkpoints").list() == []


def test_the_log_acknowledges_a_signal_at_once_and_reports_the_end(tmp_path, capfd):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, INT, INT, step=1)
    said = capfd.readouterr().err
    assert (
        "SIGINT: finishing the step and saving a checkpoint; press Ctrl-C again to stop at once, without saving" in said
    )
    assert "`--resume` continues from the latest checkpoint, if there is one" in said
    with pytest.raises(Interrupted):
        run(tmp_path, TERM, step=1)
    said = capfd.readouterr().err
    assert "SIGTERM: finishing the step and saving a checkpoint\n" in said
    assert "Ctrl-C" not in said


def test_each_further_ctrl_c_interrupts_but_only_the_second_is_acknowledged(capfd):
    signals = Signals()
    signals._receive(INT, None)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            signals._receive(INT, None)
    assert capfd.readouterr().err.count("stopped at once") == 1


def test_a_signal_takes_effect_even_if_the_terminal_is_gone(tmp_path, monkeypatch):
    def refuse(descriptor, data):
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr("audiozen_plugins.hooks.signals.os.write", refuse)
        signals = Signals()
        signals._receive(TERM, None)
    assert signals._stop == TERM


class SendsAtTheEnd:
    """A signal while the last hooks of a training are at work."""

    phase = "precision"

    def __init__(self, hook):
        self.hook = hook

    @hookimpl
    def on_run_end(self, mode):
        if self.hook == "on_run_end" and mode == "train":
            signal.raise_signal(TERM)

    @hookimpl
    def on_teardown(self):
        if self.hook == "on_teardown":
            self.hook = None
            signal.raise_signal(TERM)


@pytest.mark.parametrize("hook", ["on_run_end", "on_teardown"])
def test_a_signal_after_the_training_stops_the_run_before_the_next_mode(tmp_path, hook):
    hooks = {"checkpoint": Checkpoint(), "signals": Signals(), "sends": SendsAtTheEnd(hook)}
    trainer = make_trainer(tmp_path, hooks=hooks, max_epochs=2)

    def train_and_test():
        trainer.train(make_loader())
        trainer.test([make_loader()])

    with pytest.raises(Interrupted, match="everything is saved") as stop:
        train_and_test()
    assert stop.value.exit_code == 143
    assert CheckpointStore(tmp_path / "checkpoints").list()[-1].epoch == 2
    assert signal.getsignal(TERM) == signal.SIG_DFL


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, 1e20])
def test_a_grace_time_out_of_range_is_refused(seconds):
    with pytest.raises(RunError, match=r"`signals` .*`grace_seconds` is"):
        Signals(grace_seconds=seconds)


def test_after_the_grace_time_the_run_ends_without_a_checkpoint(tmp_path):
    class Waits:
        phase = "precision"

        @hookimpl
        def on_training_step_start(self, trainer):
            if trainer.progress.step == 1:
                signal.raise_signal(TERM)
                while True:
                    signal.pause()

    hooks = {"checkpoint": Checkpoint(), "signals": Signals(grace_seconds=0.01), "waits": Waits()}
    with pytest.raises(Interrupted, match="nothing has been saved") as stop:
        make_trainer(tmp_path, hooks=hooks).train(make_loader())
    assert stop.value.exit_code == 143
    assert CheckpointStore(tmp_path / "checkpoints").list() == []
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_signal_stops_a_test_after_the_batch():
    trainer = make_trainer(hooks={"signals": Signals(), "sends": Sends(TERM, validation=0)})
    with pytest.raises(Interrupted, match="there was nothing to save"):
        trainer.test([make_loader()])


def test_a_hook_that_changes_the_state_for_a_validation_learns_that_it_is_abandoned(tmp_path):
    class Swaps:
        """Replaces the weights while a validation runs, as a weight average would."""

        def on(self, trainer, sign):
            with torch.no_grad():
                for weight in trainer.model.parameters():
                    weight.add_(sign)

        @hookimpl
        def on_evaluation_start(self, trainer):
            self.on(trainer, 1024)

        @hookimpl
        def on_evaluation_end(self, trainer):
            self.on(trainer, -1024)

        @hookimpl
        def on_evaluation_abandoned(self, trainer):
            self.on(trainer, -1024)

    hooks = {"checkpoint": Checkpoint(), "signals": Signals(), "swaps": Swaps(), "sends": Sends(TERM, validation=1)}
    trainer = make_trainer(tmp_path, hooks=hooks)
    with pytest.raises(Interrupted):
        trainer.train(make_loader(), [make_loader()])
    saved = CheckpointStore(tmp_path / "checkpoints").load().state["model"]["0.bias"]
    assert saved.abs() < 100
