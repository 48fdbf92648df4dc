"""`stop_reason` is asked before each epoch, also before the first one and before the one that a resume continues."""

import copy

import pytest

from audiozen_core.hooks.marker import hookimpl
from tests.tiny_training import make_loader, make_trainer, weights_of


class Interrupt(BaseException):
    pass


class Asked:
    """Records when it is asked and which epochs start, stops at an epoch, or interrupts the run after a batch."""

    def __init__(self, stop_at=None, interrupt=None):
        self.stop_at, self.interrupt = stop_at, interrupt
        self.calls = []
        self.state = None

    @hookimpl
    def stop_reason(self, trainer):
        self.calls.append("asked")
        return "enough" if trainer.progress.epoch == self.stop_at else None

    @hookimpl
    def on_epoch_start(self, epoch):
        self.calls.append(f"epoch {epoch}")

    @hookimpl
    def on_training_step_end(self, trainer, batch_idx):
        if (trainer.progress.epoch + 1, batch_idx) == self.interrupt:
            self.state = state_of(trainer)
            raise Interrupt


def state_of(trainer):
    with trainer.checkpoint() as state:
        return copy.deepcopy(state)


def train(hook, state=None):
    trainer = make_trainer(hooks={"asked": hook}, max_epochs=3)
    if state:
        trainer.load_checkpoint(state)
    trainer.train(make_loader(8))
    return trainer


def starts(hook):
    """Returns each start of an epoch with the call before it."""
    return [(before, call) for before, call in zip(hook.calls, hook.calls[1:], strict=False) if call != "asked"]


def test_it_is_asked_before_each_epoch():
    hook = Asked()
    train(hook)
    assert hook.calls[0] == "asked"
    assert starts(hook) == [("asked", f"epoch {epoch}") for epoch in (1, 2, 3)]


@pytest.mark.parametrize(("interrupt", "first"), [((2, 0), 2), ((2, 1), 2)])
def test_a_resume_asks_before_the_epoch_that_it_continues(interrupt, first):
    stopped = Asked(interrupt=interrupt)
    with pytest.raises(Interrupt):
        train(stopped)
    hook = Asked()
    train(hook, stopped.state)
    assert starts(hook) == [("asked", f"epoch {epoch}") for epoch in range(first, 4)]


@pytest.mark.parametrize("stop_at", [0, 1, 2])
def test_its_reason_ends_the_training_before_the_epoch(stop_at):
    hook = Asked(stop_at=stop_at)
    trainer = train(hook)
    assert trainer.progress.epoch == stop_at
    assert starts(hook) == [("asked", f"epoch {epoch}") for epoch in range(1, stop_at + 1)]


def test_a_resume_that_stops_at_once_changes_nothing():
    first = train(Asked(stop_at=1))
    again = train(Asked(stop_at=1), state_of(first))
    assert again.progress.epoch == 1
    assert weights_of(again).equal(weights_of(first))
