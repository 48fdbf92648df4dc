"""How `--allow-drift` applies changed arguments to the state of a checkpoint."""

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from audiozen_core.errors import CheckpointError
from audiozen_core.experiment.config_diff import Change
from audiozen_core.experiment.resume import adapt_state
from audiozen_core.hooks.marker import hookimpl
from tests.tiny_training import make_loader, make_trainer, state_of


def changed(*keys):
    return [Change(key, "old", "new", True) for key in keys]


class Rates:
    """Records the learning rate of each step."""

    def __init__(self):
        self.seen = []

    @hookimpl
    def on_gradients_ready(self, trainer):
        self.seen.append(trainer.optimizer.param_groups[0]["lr"])


def trainer(optimizer, scheduler=None, interval="epoch", epochs=2, **more):
    return make_trainer(optimizer=optimizer, scheduler=scheduler, interval=interval, max_epochs=epochs, **more)


def state_after(optimizer, scheduler=None, interval="epoch"):
    before = trainer(optimizer, scheduler, interval)
    before.train(make_loader())
    return state_of(before)


def resumed(state, changes, optimizer, scheduler=None, interval="epoch", epochs=4):
    """Returns the learning rate of each further step, and the trainer."""
    rates = Rates()
    after = trainer(optimizer, scheduler, interval, epochs, hooks={"rates": rates})
    after.load_checkpoint(adapt_state(state, changes, after))
    after.train(make_loader())
    return rates.seen, after


def test_state_does_not_change_without_changed_arguments():
    state = state_after(Adam)
    assert adapt_state(state, [], trainer(Adam)) == state


def test_the_optimizer_gets_its_new_arguments_and_keeps_its_moments():
    state = state_after(lambda weights: Adam(weights, lr=0.05))
    adam = lambda weights: Adam(weights, lr=1e-4, weight_decay=0.1)  # noqa: E731
    rates, _ = resumed(state, changed("optimizer.args.lr"), adam)
    assert rates == [1e-4] * 10
    after = trainer(adam)
    adapted = adapt_state(state, changed("optimizer.args.lr", "optimizer.args.weight_decay"), after)["optimizer"]
    assert adapted["param_groups"][0]["weight_decay"] == 0.1
    assert torch.equal(adapted["state"][0]["exp_avg"], state["optimizer"]["state"][0]["exp_avg"])
    assert state["optimizer"]["param_groups"][0]["lr"] == 0.05


def test_changed_learning_rate_is_scheduled_as_if_set_from_the_start():
    halves = lambda optimizer: StepLR(optimizer, 1, 0.5)  # noqa: E731
    state = state_after(lambda weights: SGD(weights, lr=0.8), halves)
    rates, _ = resumed(state, changed("optimizer.args.lr"), lambda weights: SGD(weights, lr=0.08), halves)
    assert rates == pytest.approx([0.02] * 5 + [0.01] * 5)


def rates_of(optimizer, scheduler, steps):
    """Returns the learning rate before each step of a run that uses these arguments from the start."""
    whole = trainer(optimizer, scheduler)
    rates = []
    for _ in range(steps):
        rates.append(whole.optimizer.param_groups[0]["lr"])
        whole.optimizer.step()
        whole.lr_scheduler.step()
    return rates


class Own(LRScheduler):
    """A third-party scheduler that extends a torch scheduler."""

    def get_lr(self):
        return [base * 0.9**self.last_epoch for base in self.base_lrs]


def sgd(lr):
    return lambda weights: SGD(weights, lr=lr)


def cycle(steps, top):
    return lambda optimizer: OneCycleLR(optimizer, max_lr=top, total_steps=steps)


def warm_up(start, steps):
    return lambda optimizer: LinearLR(optimizer, start_factor=start, total_iters=steps)


def chain(length):
    def make(optimizer):
        parts = [LinearLR(optimizer, total_iters=length), CosineAnnealingLR(optimizer, 40)]
        return SequentialLR(optimizer, parts, milestones=[length])

    return make


CHANGED = {
    "a cycle": (SGD, cycle(11, 0.1), SGD, cycle(21, 0.2), "lr_scheduler.args.total_steps"),
    "steps": (SGD, lambda o: StepLR(o, 3, 0.5), SGD, lambda o: StepLR(o, 4, 0.1), "lr_scheduler.args.gamma"),
    "a longer warm-up": (sgd(0.1), warm_up(0.1, 12), sgd(0.1), warm_up(0.1, 18), "lr_scheduler.args.total_iters"),
    "a warmer start": (sgd(0.1), warm_up(0.1, 15), sgd(0.1), warm_up(0.5, 15), "lr_scheduler.args.start_factor"),
    "a chain": (sgd(0.1), chain(4), sgd(0.1), chain(8), "lr_scheduler.args.milestones"),
    "restarts": (
        sgd(0.1),
        lambda o: CosineAnnealingWarmRestarts(o, 2),
        sgd(0.1),
        lambda o: CosineAnnealingWarmRestarts(o, 7),
        "lr_scheduler.args.T_0",
    ),
    "another rate": (sgd(0.1), Own, sgd(0.01), Own, "optimizer.args.lr"),
    "another optimizer": (
        sgd(0.1),
        lambda o: StepLR(o, 4, 0.1),
        lambda w: Adam(w, lr=0.1),
        lambda o: StepLR(o, 4, 0.1),
        "optimizer.path",
    ),
}


def test_change_of_another_argument_does_not_change_the_scheduled_rate():
    halves = lambda optimizer: StepLR(optimizer, 1, 0.5)  # noqa: E731
    state = state_after(sgd(0.8), halves)
    now = lambda weights: SGD(weights, lr=0.8, weight_decay=0.1)  # noqa: E731
    rates, trained = resumed(state, changed("optimizer.args.weight_decay"), now, halves)
    assert rates == pytest.approx([0.2] * 5 + [0.1] * 5)
    assert trained.optimizer.param_groups[0]["weight_decay"] == 0.1


@pytest.mark.parametrize("case", CHANGED)
def test_changed_scheduler_is_fast_forwarded_to_the_current_step(case):
    before, scheduler_before, now, scheduler_now, key = CHANGED[case]
    state = state_after(before, scheduler_before, "step")
    rates, _ = resumed(state, changed(key), now, scheduler_now, "step")
    assert rates == pytest.approx(rates_of(now, scheduler_now, 20)[10:])


def test_new_scheduler_starts_at_its_first_step():
    state = state_after(sgd(0.1))
    rates, _ = resumed(state, changed("lr_scheduler.path"), sgd(0.1), warm_up(0.1, 4), "step")
    assert rates == pytest.approx(rates_of(sgd(0.1), warm_up(0.1, 4), 10))


def test_a_scheduler_that_ends_too_early_is_an_error():
    state = state_after(SGD, cycle(11, 0.1), "step")
    with pytest.raises(CheckpointError, match=r"OneCycleLR has already taken 10 steps, but .* ends earlier"):
        resumed(state, changed("lr_scheduler.args.total_steps"), SGD, cycle(7, 0.1), "step")


def test_plateau_scheduler_keeps_its_best_and_takes_a_changed_optimizer_rate():
    def plateau(patience):
        return lambda optimizer: ReduceLROnPlateau(optimizer, mode="max", patience=patience)

    state = state_after(sgd(0.8), plateau(1))
    state["lr_scheduler"] |= {"best": 7.5, "num_bad_epochs": 1}
    state["optimizer"]["param_groups"][0]["lr"] = 0.2
    adapted = adapt_state(state, changed("lr_scheduler.args.patience"), trainer(sgd(0.8), plateau(5)))
    kept = adapted["lr_scheduler"]
    assert (kept["best"], kept["num_bad_epochs"], kept["patience"]) == (7.5, 1, 5)
    assert adapted["optimizer"]["param_groups"][0]["lr"] == 0.2
    lower = [Change("optimizer.args.lr", "0.8", "0.08", True)]
    adapted = adapt_state(state, lower, trainer(sgd(0.08), plateau(1)))
    assert adapted["optimizer"]["param_groups"][0]["lr"] == 0.08


def test_state_of_a_removed_scheduler_is_deleted():
    state = state_after(sgd(0.8), lambda optimizer: StepLR(optimizer, 1, 0.5))
    adapted = adapt_state(state, changed("lr_scheduler.path", "lr_scheduler.args.step_size"), trainer(sgd(0.8)))
    assert "lr_scheduler" not in adapted
    assert "initial_lr" not in adapted["optimizer"]["param_groups"][0]
    assert adapted["optimizer"]["param_groups"][0]["lr"] == 0.8


def test_a_component_of_another_class_starts_without_state():
    state = state_after(Adam, lambda optimizer: StepLR(optimizer, 1))
    sgd = lambda weights: SGD(weights, lr=0.3, momentum=0.9)  # noqa: E731
    keys = changed("optimizer.path", "optimizer.args.lr", "lr_scheduler.path")
    rates, trained = resumed(state, keys, sgd, lambda optimizer: CosineAnnealingLR(optimizer, 8))
    assert rates[0] == 0.3
    assert "momentum_buffer" in trained.optimizer.state_dict()["state"][0]
    _, trained = resumed(state, changed("lr_scheduler.path"), Adam)
    assert trained.progress.epoch == 4


def test_a_custom_scheduler_keeps_its_state_except_the_changed_arguments():
    class Counts:
        def __init__(self, optimizer, factor):
            self.optimizer, self.factor, self.calls = optimizer, factor, 0

        def step(self):
            self.calls += 1

        def state_dict(self):
            return {"factor": self.factor, "calls": self.calls}

        def load_state_dict(self, state):
            self.factor, self.calls = state["factor"], state["calls"]

    state = state_after(SGD, lambda optimizer: Counts(optimizer, 2))
    _, trained = resumed(state, changed("lr_scheduler.args.factor"), SGD, lambda optimizer: Counts(optimizer, 3))
    assert (trained.lr_scheduler.factor, trained.lr_scheduler.calls) == (3, 4)


def test_a_loss_gets_its_new_arguments():
    def run(weight):
        return make_trainer(loss=nn.CrossEntropyLoss(weight=torch.tensor([weight])), max_epochs=1)

    state = state_of(run(1.0))
    adapted = adapt_state(state, changed("loss_function.args.weight"), run(4.0))
    assert adapted["loss_function"]["weight"].item() == 4.0


def test_state_of_a_plugins_section_that_is_named_like_a_loss_is_kept():
    state = state_of(make_trainer(max_epochs=1)) | {"loss_functions": {"seen": 3}, "loss_function_d": {"seen": 4}}
    adapted = adapt_state(state, changed("loss_functions.size", "loss_function_d.path"), make_trainer(max_epochs=1))
    assert adapted["loss_functions"] == {"seen": 3}
    assert "loss_function_d" not in adapted  # the negative control: a loss that the run does not have
