"""The mean over the batches of a window, compared with a loop that is written by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset

from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import RunError
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.components import Components
from audiozen_plugins.hooks.amp import Amp
from audiozen_plugins.hooks.nonfinite import NonFinite
from tests.tiny_training import TinyTrainer, make_trainer, weights_of

X = torch.randn(11, 3, 4, generator=torch.Generator().manual_seed(5))
LR = 0.1


class Rows(torch.utils.data.Dataset):
    """Eleven inputs [3, 4], each a batch of its own."""

    def __init__(self, size=11):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return {"x": X[index], "y": X[index].sum(-1, keepdim=True), "index": index}


class Stream(IterableDataset):
    def __init__(self, size=11):
        self.size = size

    def __iter__(self):
        return (Rows()[index] for index in range(self.size))


class WrongLength(Stream):
    """Says that it has another length than it has."""

    def __init__(self, size, says):
        super().__init__(size)
        self.says = says

    def __len__(self):
        return self.says


class Means(TinyTrainer):
    """Minimises the squared error of one item. The loss of some items is NaN."""

    bad = ()

    def training_step(self, batch, batch_idx):
        loss = self._error(batch)
        return {"loss": loss * torch.nan if batch["index"] in self.bad else loss}


def run(dataset, window, *, bad=(), hooks=None, left_out=(), model=lambda: nn.Linear(4, 1)):
    class LeavesOut:
        @hookimpl
        def skip_batch(self, batch_idx):
            return True if batch_idx in left_out else None

    trainer = make_trainer(
        cls=type("Of", (Means,), {"bad": bad}),
        model=model,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=LR),
        hooks={"leaves_out": LeavesOut(), **(hooks or {})},
        max_epochs=1,
        gradient_accumulation_steps=window,
        on_nonfinite="skip" if bad else "stop",
    )
    trainer.train(BatchLoader(dataset, batch_size=1, collate_fn=lambda items: items[0], shuffle=False))
    return trainer


def by_hand(windows):
    """Takes one step of SGD for each window: the mean of the losses of its items."""
    torch.manual_seed(0)
    net = nn.Linear(4, 1)
    for window in windows:
        if window:
            net.zero_grad()
            losses = [(net(X[index]) - X[index].sum(-1, keepdim=True)).square().mean() for index in window]
            torch.stack(losses).mean().backward()
            with torch.no_grad():
                for weight in net.parameters():
                    weight.sub_(LR * weight.grad)
    return torch.cat([weight.detach().flatten() for weight in net.parameters()])


FULL = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]


@pytest.mark.parametrize(
    "dataset",
    [Rows(), Stream(), WrongLength(11, 20), WrongLength(11, 10)],
    ids=["map", "stream", "too short", "too long"],
)
def test_every_batch_of_a_window_weighs_the_same_also_in_the_last_window_of_a_stream(dataset):
    trainer = run(dataset, 4)
    assert trainer.progress.step == 3
    torch.testing.assert_close(weights_of(trainer), by_hand(FULL))


def test_a_last_window_that_is_divided_by_the_full_length_gives_other_weights():
    wrong = by_hand([[0, 1, 2, 3], [4, 5, 6, 7]])
    torch.manual_seed(0)
    assert not torch.allclose(by_hand(FULL), wrong, atol=1e-3)


@pytest.mark.parametrize("dataset", [Rows(), Stream()], ids=["map", "stream"])
def test_batches_that_a_hook_leaves_out_do_not_lessen_the_others(dataset):
    trainer = run(dataset, 4, left_out=(1, 2, 4, 5, 6, 7))
    assert trainer.progress.step == 3
    torch.testing.assert_close(weights_of(trainer), by_hand([[0, 3], [], [8, 9, 10]]))


@pytest.mark.parametrize("dataset", [Rows(), Stream()], ids=["map", "stream"])
def test_batches_with_a_nan_loss_do_not_lessen_the_others(dataset):
    trainer = run(dataset, 4, bad=(1, 8), hooks={"nonfinite": NonFinite()})
    torch.testing.assert_close(weights_of(trainer), by_hand([[0, 2, 3], [4, 5, 6, 7], [9, 10]]))


def test_scaled_gradients_are_averaged_too():
    plain = run(Stream(), 4)
    trainer = make_trainer(
        cls=Means,
        model=lambda: nn.Linear(4, 1),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=LR),
        hooks={"amp": Amp(dtype="float16", init_scale=1024.0)},
        max_epochs=1,
        gradient_accumulation_steps=4,
    )
    trainer.use_amp = True
    trainer.hooks.autocast = lambda trainer: None  # the scaler alone, so that the losses are those of float32
    trainer.train(BatchLoader(Stream(), batch_size=1, collate_fn=lambda items: items[0], shuffle=False))
    assert trainer.loss_is_scaled
    torch.testing.assert_close(weights_of(trainer), weights_of(plain))


class Norms:
    def __init__(self):
        self.seen = []

    @hookimpl
    def on_gradients_ready(self, trainer):
        self.seen.append(float(trainer.measure_gradients()[""]))


def test_gradients_are_averaged_before_they_are_measured():
    norms = Norms()
    run(Stream(5), 4, hooks={"norms": norms})
    torch.manual_seed(0)
    trainer = run(Stream(4), 4)
    (trainer.model(X[4]) - X[4].sum(-1, keepdim=True)).square().mean().backward()
    expected = torch.nn.utils.get_total_norm([weight.grad for weight in trainer.model.parameters()])
    assert norms.seen[1] == pytest.approx(float(expected), rel=1e-5)


class Alternates(BaseTrainer):
    """Trains `g` with every batch and `d` with every third."""

    def training_step(self, batch, batch_idx):
        losses = {"loss_g": (self.models["g"](batch["x"]) - batch["y"]).square().mean()}
        if batch_idx % 3 == 0:
            losses["loss_d"] = (self.models["d"](batch["x"]) - batch["y"]).square().mean()
        return losses


def test_each_network_has_the_mean_over_the_batches_with_its_own_loss():
    torch.manual_seed(0)
    g = nn.Linear(4, 1)
    torch.manual_seed(0)
    d = nn.Linear(4, 1)
    optimizers = {name: torch.optim.SGD(net.parameters(), lr=LR) for name, net in (("g", g), ("d", d))}
    trainer = Alternates(
        Components({"g": g, "d": d}, optimizers=optimizers), max_epochs=1, gradient_accumulation_steps=4
    )
    trainer.train(BatchLoader(Stream(), batch_size=1, collate_fn=lambda items: items[0], shuffle=False))
    of_g, of_d = (torch.cat([weight.detach().flatten() for weight in net.parameters()]) for net in (g, d))
    torch.testing.assert_close(of_g, by_hand(FULL))
    torch.testing.assert_close(of_d, by_hand([[0, 3], [6], [9]]))


def test_gradients_of_a_network_without_an_optimizer_do_not_pile_up():
    class Sees:
        @hookimpl
        def on_gradients_ready(self, trainer):
            assert set(trainer.measure_gradients()) == {"g"}

    class Teaches(BaseTrainer):
        def training_step(self, batch, batch_idx):
            teacher = self.models["teacher"].weight.grad
            self.seen = [*getattr(self, "seen", []), None if teacher is None else float(teacher.norm())]
            return {"loss": (self.models["g"](batch["x"]) - self.models["teacher"](batch["x"])).square().mean()}

    torch.manual_seed(0)
    nets = {"g": nn.Linear(4, 1), "teacher": nn.Linear(4, 1)}
    before = nets["teacher"].weight.detach().clone()
    optimizers = {"g": torch.optim.SGD(nets["g"].parameters(), lr=LR)}
    lifecycle = Lifecycle([Plugin("sees", Sees())])
    trainer = Teaches(Components(nets, optimizers=optimizers, lifecycle=lifecycle), max_epochs=2)
    trainer.train(BatchLoader(Rows(3), batch_size=1, collate_fn=lambda items: items[0]))
    assert trainer.seen == [None] * 6
    assert torch.equal(nets["teacher"].weight, before)


def test_weights_that_a_hook_unfreezes_between_epochs_are_measured_and_clipped():
    class Unfreezes:
        @hookimpl
        def on_epoch_start(self, trainer, epoch):
            trainer.model[0].requires_grad_(epoch == 2)

        @hookimpl
        def on_gradients_ready(self, trainer):
            self.measured = float(trainer.measure_gradients()[""])
            gradients = [weight.grad for weight in trainer.model.parameters() if weight.grad is not None]
            self.there = float(torch.nn.utils.get_total_norm(gradients))

    hook = Unfreezes()
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    model[0].requires_grad_(False)
    make_trainer(model=lambda: model, hooks={"unfreezes": hook}, max_epochs=2).train(
        BatchLoader(Rows(3), batch_size=1, collate_fn=lambda items: items[0])
    )
    assert model[0].weight.grad is None
    assert hook.measured == pytest.approx(hook.there, rel=1e-5)


def test_weights_that_only_the_optimizer_has_are_an_error():
    strange = nn.Parameter(torch.zeros(3, 2))

    def optimizer(parameters):
        return torch.optim.SGD([*parameters, strange], lr=LR)

    with pytest.raises(RunError, match=r"\[optimizer\] has 1 weight that no network or loss function has") as error:
        make_trainer(optimizer=optimizer)
    assert error.value.notes == ("shapes: [3, 2]",)


def test_weights_that_a_hook_gives_only_to_the_optimizer_are_an_error():
    class Adds:
        @hookimpl
        def on_epoch_start(self, trainer):
            trainer.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))]})

    with pytest.raises(RunError, match="that no network or loss function has"):
        make_trainer(hooks={"adds": Adds()}, max_epochs=1).train(BatchLoader(Rows(2), batch_size=1))


def test_weights_of_one_network_may_be_in_the_optimizer_of_another():
    nets = {"g": nn.Linear(4, 1), "d": nn.Linear(4, 1)}
    both = torch.optim.SGD([weight for net in nets.values() for weight in net.parameters()], lr=LR)
    trainer = Alternates(Components(nets, optimizers={"g": both}))
    assert len(trainer.trained_parameters("d")) == 2
