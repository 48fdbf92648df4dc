"""What a signal does at each moment of a run."""

import math
import signal

import pytest
import torch

from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.errors import Interrupted, RunError
from audiozen_core.hooks.marker import hookimpl
from audiozen_plugins.hooks.checkpoint import Checkpoint
from audiozen_plugins.hooks.signals import Signals
from tests.tiny_training import make_loader, make_trainer, state_of, weights_of

TERM, INT, USR1 = signal.SIGTERM, signal.SIGINT, signal.SIGUSR1


@pytest.fixture(autouse=True)
def _handled_signals():
    """Restores the default handlers: `nohup` and a shell that runs the tests in the background ignore signals."""
    defaults = {TERM: signal.SIG_DFL, INT: signal.default_int_handler, USR1: signal.SIG_DFL}
    before = {number: signal.signal(number, how) for number, how in {**defaults, signal.SIGHUP: signal.SIG_DFL}.items()}
    yield
    for number, how in before.items():
        signal.signal(number, how)


class Sends:
    """Raises signals once: in a step, in a validation, or at the end of an epoch."""

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


# All signals have one handler, so by default two moments show that the others do the same as SIGTERM.
CASES = [
    pytest.param(number, code, moment, marks=[] if number == TERM or place in (1, 3) else pytest.mark.slow)
    for number, code in ((TERM, 143), (INT, 130), (signal.SIGHUP, 129))
    for place, moment in enumerate(MOMENTS)
]


@pytest.mark.parametrize(("number", "code", "moment"), CASES, ids=str)
def test_run_stopped_by_a_signal_and_resumed_ends_with_the_same_state(tmp_path, number, code, moment):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as stop:
        run(tmp_path / "stopped", number, **moment)
    assert stop.value.exit_code == code
    assert signal.getsignal(number) is before
    resumed = run(tmp_path / "stopped", resume=True)
    whole = run(tmp_path / "whole")
    assert torch.equal(weights_of(resumed), weights_of(whole))
    assert resumed.progress == whole.progress
    assert torch.equal(torch.get_rng_state(), state_of(whole)["rng"]["torch"])


def test_resumed_run_repeats_an_interrupted_last_validation(tmp_path):
    def train(resume, *sent):
        hooks = {"checkpoint": Checkpoint(), "signals": Signals(), "sends": Sends(*sent, validation=0)}
        trainer = make_trainer(tmp_path, hooks=hooks, max_steps=3)
        if resume:
            trainer.load_checkpoint(CheckpointStore(tmp_path / "checkpoints").load().state)
        trainer.train(make_loader(), [make_loader(shuffle=False)])
        return trainer

    with pytest.raises(Interrupted):
        train(False, TERM)
    trainer = train(True)
    assert (trainer.progress.step, trainer.progress.epoch, trainer.progress.best_epoch) == (3, 0, 1)


def test_signal_during_accumulation_stops_the_run_after_the_step(tmp_path):
    with pytest.raises(Interrupted):
        run(tmp_path, TERM, step=0)
    (name,) = [info.path.name for info in CheckpointStore(tmp_path / "checkpoints").list()]
    assert name == "epoch_0001_step_0000001"


def test_closing_the_terminal_does_not_stop_a_run_under_nohup(tmp_path):
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


def test_log_says_what_each_signal_does(tmp_path, capfd):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, INT, INT, step=1)
    log = capfd.readouterr().err
    assert (
        "SIGINT: finishing the step and saving a checkpoint; press Ctrl-C again to stop at once, without saving" in log
    )
    assert "`--resume` (in Python `resume=True`) continues from the latest checkpoint, if there is one" in log
    with pytest.raises(Interrupted):
        run(tmp_path, TERM, step=1)
    log = capfd.readouterr().err
    assert "SIGTERM: finishing the step and saving a checkpoint\n" in log
    assert "Ctrl-C" not in log


def test_every_later_ctrl_c_interrupts_but_only_the_second_is_logged(capfd):
    signals = Signals()
    signals._receive(INT, None)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            signals._receive(INT, None)
    assert capfd.readouterr().err.count("stopped at once") == 1


def test_signal_takes_effect_even_if_the_terminal_is_closed(tmp_path, monkeypatch):
    def fail(descriptor, data):
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr("audiozen_plugins.hooks.signals.os.write", fail)
        signals = Signals()
        signals._receive(TERM, None)
    assert signals._stop == TERM


class SendsAtTheEnd:
    """Raises SIGTERM in one of the last hooks of a run."""

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
def test_out_of_range_grace_time_is_rejected(seconds):
    with pytest.raises(RunError, match=r"`grace_seconds` is .*, for Signals"):
        Signals(grace_seconds=seconds)


def test_run_stops_without_a_checkpoint_after_the_grace_time(tmp_path):
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


def test_signal_stops_a_test():
    trainer = make_trainer(hooks={"signals": Signals(), "sends": Sends(TERM, validation=0)})
    with pytest.raises(Interrupted, match="there was nothing to save"):
        trainer.test([make_loader()])


def test_hook_can_restore_the_weights_when_a_validation_is_interrupted(tmp_path):
    class Swaps:
        """Changes the weights during validation. A weight average would do the same."""

        def shift(self, trainer, offset):
            with torch.no_grad():
                for weight in trainer.model.parameters():
                    weight.add_(offset)

        @hookimpl
        def on_evaluation_start(self, trainer):
            self.shift(trainer, 1024)

        @hookimpl
        def on_evaluation_end(self, trainer):
            self.shift(trainer, -1024)

        @hookimpl
        def on_evaluation_abandoned(self, trainer):
            self.shift(trainer, -1024)

    hooks = {"checkpoint": Checkpoint(), "signals": Signals(), "swaps": Swaps(), "sends": Sends(TERM, validation=1)}
    trainer = make_trainer(tmp_path, hooks=hooks)
    with pytest.raises(Interrupted):
        trainer.train(make_loader(), [make_loader()])
    saved = CheckpointStore(tmp_path / "checkpoints").load().state["model"]["0.bias"]
    assert saved.abs() < 100
