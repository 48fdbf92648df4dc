"""What `--allow-drift` makes of a checkpoint: the arguments of now, and the counts of then."""

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from audiozen_core.checkpoint.drift import Change
from audiozen_core.hookspecs import hookimpl
from audiozen_core.resuming import adapted
from tests.tiny_training import make_loader, make_trainer


def changed(*keys):
    return [Change(key, "then", "now", True) for key in keys]


class Rates:
    """Notes the learning rate of each step."""

    def __init__(self):
        self.seen = []

    @hookimpl
    def on_gradients_ready(self, trainer):
        self.seen.append(trainer.optimizer.param_groups[0]["lr"])


def trainer(optimizer, scheduler=None, interval="epoch", epochs=2, **more):
    return make_trainer(optimizer=optimizer, scheduler=scheduler, interval=interval, max_epochs=epochs, **more)


def state_of(optimizer, scheduler=None, interval="epoch"):
    before = trainer(optimizer, scheduler, interval)
    before.train(make_loader())
    return before.checkpoint()


def resumed(state, changes, optimizer, scheduler=None, interval="epoch", epochs=4):
    """The learning rate of each further step, and the trainer."""
    rates = Rates()
    after = trainer(optimizer, scheduler, interval, epochs, hooks={"rates": rates})
    after.load_checkpoint(adapted(state, changes, after))
    after.train(make_loader())
    return rates.seen, after


def test_without_a_change_nothing_is_touched():
    state = state_of(Adam)
    assert adapted(state, [], trainer(Adam)) == state


def test_the_arguments_of_the_optimizer_are_those_of_now_and_its_moments_those_of_then():
    state = state_of(lambda weights: Adam(weights, lr=0.05))
    adam = lambda weights: Adam(weights, lr=1e-4, weight_decay=0.1)  # noqa: E731
    rates, _ = resumed(state, changed("optimizer.args.lr"), adam)
    assert rates == [1e-4] * 10
    after = trainer(adam)
    told = adapted(state, changed("optimizer.args.lr", "optimizer.args.weight_decay"), after)["optimizer"]
    assert told["param_groups"][0]["weight_decay"] == 0.1
    assert torch.equal(told["state"][0]["exp_avg"], state["optimizer"]["state"][0]["exp_avg"])
    assert state["optimizer"]["param_groups"][0]["lr"] == 0.05


def test_a_rate_that_a_scheduler_has_lowered_is_lowered_as_much_from_the_new_one():
    halves = lambda optimizer: StepLR(optimizer, 1, 0.5)  # noqa: E731
    state = state_of(lambda weights: SGD(weights, lr=0.8), halves)
    rates, _ = resumed(state, changed("optimizer.args.lr"), lambda weights: SGD(weights, lr=0.08), halves)
    assert rates == pytest.approx([0.02] * 5 + [0.01] * 5)


def test_the_arguments_of_the_scheduler_are_those_of_now_and_its_counts_those_of_then():
    sgd = lambda weights: SGD(weights, lr=0.8)  # noqa: E731
    state = state_of(sgd, lambda optimizer: StepLR(optimizer, 1, 0.5))
    after = lambda optimizer: StepLR(optimizer, 3, 0.1)  # noqa: E731
    rates, trained = resumed(state, changed("lr_scheduler.args.gamma", "lr_scheduler.args.step_size"), sgd, after)
    assert rates == pytest.approx([0.2] * 5 + [0.02] * 5)
    assert trained.lr_scheduler.last_epoch == 4


def test_a_cycle_is_made_longer_and_higher():
    def cycle(steps, top):
        return lambda optimizer: OneCycleLR(optimizer, max_lr=top, total_steps=steps)

    state = state_of(SGD, cycle(11, 0.1), "step")
    keys = changed("lr_scheduler.args.total_steps", "lr_scheduler.args.max_lr")
    rates, _ = resumed(state, keys, SGD, cycle(21, 0.2), "step")
    whole = trainer(SGD, cycle(21, 0.2))
    expected = []
    for _ in range(20):
        expected.append(whole.optimizer.param_groups[0]["lr"])
        whole.optimizer.step()
        whole.lr_scheduler.step()
    assert rates[1:] == pytest.approx(expected[11:])


def test_a_plateau_remembers_its_best_and_a_chain_its_parts():
    state = state_of(SGD, lambda optimizer: ReduceLROnPlateau(optimizer, mode="max", patience=1))
    state["lr_scheduler"] |= {"best": 7.5, "num_bad_epochs": 1}
    after = trainer(SGD, lambda optimizer: ReduceLROnPlateau(optimizer, mode="max", patience=5))
    told = adapted(state, changed("lr_scheduler.args.patience"), after)["lr_scheduler"]
    assert (told["best"], told["num_bad_epochs"], told["patience"]) == (7.5, 1, 5)

    def chain(length):
        def make(optimizer):
            parts = [LinearLR(optimizer, total_iters=length), CosineAnnealingLR(optimizer, 9)]
            return SequentialLR(optimizer, parts, milestones=[length])

        return make

    state = state_of(SGD, chain(1))
    told = adapted(state, changed("lr_scheduler.args.milestones"), trainer(SGD, chain(3)))["lr_scheduler"]
    assert (told["_milestones"], told["last_epoch"]) == ([3], 2)
    assert told["_schedulers"][0]["total_iters"] == 3
    assert told["_schedulers"][1]["last_epoch"] == state["lr_scheduler"]["_schedulers"][1]["last_epoch"]


def test_what_is_another_class_now_starts_anew_and_what_is_gone_is_left_out():
    state = state_of(Adam, lambda optimizer: StepLR(optimizer, 1))
    sgd = lambda weights: SGD(weights, lr=0.3, momentum=0.9)  # noqa: E731
    keys = changed("optimizer.path", "optimizer.args.lr", "lr_scheduler.path")
    rates, trained = resumed(state, keys, sgd, lambda optimizer: CosineAnnealingLR(optimizer, 8))
    assert rates[0] == 0.3
    assert "momentum_buffer" in trained.optimizer.state_dict()["state"][0]
    _, trained = resumed(state, changed("lr_scheduler.path"), Adam)
    assert trained.progress.epoch == 4


def test_a_scheduler_of_somebody_else_keeps_all_but_the_arguments_that_have_changed():
    class Counts:
        def __init__(self, optimizer, factor):
            self.optimizer, self.factor, self.calls = optimizer, factor, 0

        def step(self):
            self.calls += 1

        def state_dict(self):
            return {"factor": self.factor, "calls": self.calls}

        def load_state_dict(self, state):
            self.factor, self.calls = state["factor"], state["calls"]

    state = state_of(SGD, lambda optimizer: Counts(optimizer, 2))
    _, trained = resumed(state, changed("lr_scheduler.args.factor"), SGD, lambda optimizer: Counts(optimizer, 3))
    assert (trained.lr_scheduler.factor, trained.lr_scheduler.calls) == (3, 4)


def test_a_loss_whose_arguments_have_changed_has_those_of_now():
    def run(weight):
        return make_trainer(loss=nn.CrossEntropyLoss(weight=torch.tensor([weight])), max_epochs=1)

    state = run(1.0).checkpoint()
    told = adapted(state, changed("loss_function.args.weight"), run(4.0))
    assert told["loss_function"]["weight"].item() == 4.0
