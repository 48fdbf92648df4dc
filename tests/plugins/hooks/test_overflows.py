"""Steps that overflow float16: each optimiser has its own count, and no record of the epoch is spoilt by them."""

import functools
import json
import math
import signal

import pytest
import torch
from torch import nn

from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import Interrupted, RunError
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.trainer import step_scalars
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.components import Components
from audiozen_plugins.hooks import amp
from audiozen_plugins.hooks.amp import Amp
from audiozen_plugins.hooks.checkpoint import Checkpoint
from audiozen_plugins.hooks.clip_grad_norm import ClipGradNorm
from audiozen_plugins.hooks.signals import Signals
from tests.tiny_training import TinyTrainer, make_loader, make_trainer, state_of, weights_of


class _Blow(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("inf")


class Overflows(TinyTrainer):
    """Some losses overflow float16 when they are scaled."""

    often = False

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)["loss"].float()
        if self.often or (self.progress.epoch == 1 and batch_idx in (1, 2)):
            loss = _Blow.apply(loss)
        return loss


class Log:
    """Collects what is recorded, by step or epoch."""

    def __init__(self):
        self.epochs, self.steps = {}, {}

    @hookimpl
    def on_log(self, metrics, step, epoch):
        if any(name.startswith("train/") for name in metrics):
            assert epoch not in self.epochs
            self.epochs[epoch] = dict(metrics)
        else:
            self.steps[step] = dict(metrics)


def make(log, *, cls=Overflows, amp=None, **args):
    hooks = {"amp": amp or Amp(dtype="float16", init_scale=16.0), "clip": ClipGradNorm(), "log": log}
    trainer = make_trainer(cls=cls, hooks=hooks, **args)
    trainer.use_amp = True
    return trainer


def adam(fused):
    """A fused optimiser is called even if the gradients have overflowed, and leaves the step out itself."""
    return functools.partial(torch.optim.Adam, lr=0.05, fused=fused)


@pytest.fixture(params=[False, True], ids=["at once", "late"])
def late(request, monkeypatch):
    """A GPU reads numbers some steps late, which is tried on the CPU."""
    if request.param:
        monkeypatch.setattr(step_scalars.StepScalars, "lag", 3)
        monkeypatch.setattr(amp, "_lag", lambda device: 3)


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("fused", [False, True])
def test_overflows_are_counted_for_each_epoch_and_do_not_stop_the_run(fused):
    log = Log()
    trainer = make(log, max_epochs=3, optimizer=adam(fused))
    trainer.train(make_loader())
    assert [metrics.get("train/overflows") for metrics in log.epochs.values()] == [None, 2.0, None]
    assert state_of(trainer)["hook_amp"]["scaler"]["scale"] == 4.0
    assert weights_of(trainer).isfinite().all()


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("fused", [False, True])
def test_step_that_overflows_is_not_in_the_mean_norm_of_the_gradients(fused):
    """Two of five steps overflow."""
    log = Log()
    make(log, max_epochs=2, plot_norm=True, log_interval=1, optimizer=adam(fused)).train(make_loader())
    taken = [log.steps[step]["step/grad_norm"] for step in (6, 9, 10)]
    assert not any("step/grad_norm" in log.steps[step] for step in (7, 8))
    assert log.epochs[2]["train/grad_norm"] == pytest.approx(sum(taken) / 3)
    # The loss of such a step is a correct loss of the network, so it counts.
    losses = [log.steps[step]["step/loss"] for step in range(6, 11)]
    assert log.epochs[2]["train/loss"] == pytest.approx(sum(losses) / 5)


def test_norm_that_is_not_finite_is_recorded_where_no_scaler_leaves_the_step_out():
    """The negative control: here the weights are spoilt, and the record must show it."""

    class Spoils:
        phase = "precision"

        @hookimpl
        def on_gradients_ready(self, trainer):
            if trainer.progress.step == 9:
                next(trainer.model.parameters()).grad.fill_(math.inf)

    log = Log()
    hooks = {"spoils": Spoils(), "clip": ClipGradNorm(), "log": log}
    make_trainer(max_epochs=2, plot_norm=True, hooks=hooks).train(make_loader())
    assert log.epochs[2]["train/grad_norm"] == math.inf


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("fused", [False, True])
def test_too_many_overflows_in_a_row_are_an_error(fused):
    trainer = make(Log(), max_epochs=9, amp=Amp(dtype="float16", max_overflows=7), optimizer=adam(fused))
    trainer.often = True
    with pytest.raises(
        RunError, match=r"overflowed float16 in 8 steps in a row, up to step 8: \[optimizer\] makes no progress"
    ):
        trainer.train(make_loader())


class Two(BaseTrainer):
    """Trains two networks in every step. The gradients of one of them always overflow."""

    def training_step(self, batch, batch_idx):
        losses = {f"loss_{suffix}": self.models[suffix](batch["x"]).float().square().mean() for suffix in "gd"}
        return losses | {"loss_d": _Blow.apply(losses["loss_d"])}


def two_networks(amp, log, **args):
    torch.manual_seed(0)
    nets = {suffix: nn.Linear(4, 1) for suffix in "gd"}
    optimizers = {suffix: torch.optim.SGD(net.parameters(), lr=0.1) for suffix, net in nets.items()}
    lifecycle = Lifecycle([Plugin("amp", amp), Plugin("log", log)])
    return Two(Components(nets, optimizers=optimizers, lifecycle=lifecycle, use_amp=True), **args)


def loader():
    return BatchLoader([{"x": torch.full((4,), float(index))} for index in range(1, 5)], batch_size=1)


def test_overflows_in_a_row_are_those_of_one_optimizer():
    """The other network trains on, so its steps must not restart the count."""
    with pytest.raises(
        RunError, match=r"overflowed float16 in 4 steps in a row, .*: \[optimizer_d\] makes no progress"
    ):
        two_networks(Amp(dtype="float16", init_scale=16.0, max_overflows=3), Log(), max_epochs=1).train(loader())


def test_overflows_of_each_optimizer_are_recorded_under_its_suffix():
    log = Log()
    two_networks(Amp(dtype="float16", init_scale=16.0, max_overflows=8), log, max_epochs=2).train(loader())
    assert [metrics["train/overflows_d"] for metrics in log.epochs.values()] == [4.0, 4.0]
    assert not any("train/overflows_g" in metrics for metrics in log.epochs.values())


def test_counts_of_overflows_are_in_a_checkpoint():
    amp = Amp(dtype="float16", init_scale=16.0, max_overflows=8)
    two_networks(amp, Log(), max_epochs=1).train(loader())
    state = json.loads(json.dumps(amp.state_dict()))
    again = Amp(dtype="float16", init_scale=16.0, max_overflows=8)
    again.load_state_dict(state)
    with pytest.raises(RunError, match=r"in 9 steps in a row"):
        two_networks(again, Log(), max_epochs=2).train(loader())


def test_optimiser_that_the_trainer_does_not_have_is_an_error():
    """Its overflows would be counted as those of another one."""
    amp = Amp(dtype="float16", init_scale=16.0)
    trainer = make(Log(), amp=amp, max_epochs=1)
    trainer.train(make_loader())
    trainer.model[0].weight.grad = torch.ones(1, 4)
    with pytest.raises(KeyError):
        amp.optimizer_step(trainer, torch.optim.SGD(trainer.model.parameters(), lr=0.0))
    assert amp.optimizer_step(trainer, trainer.optimizers[""])


class Stops:
    """Sends a signal in the validation of the second epoch, or in the last step before it."""

    phase = "precision"

    def __init__(self, moment):
        self.moment = moment

    def send(self, trainer, moment, epoch):
        if self.moment == moment and trainer.progress.epoch == epoch:
            signal.raise_signal(signal.SIGTERM)

    @hookimpl
    def on_evaluation_step_end(self, trainer):
        self.send(trainer, "validation", 2)

    @hookimpl
    def on_training_step_start(self, trainer, batch_idx):
        if batch_idx == 3:
            self.send(trainer, "step", 1)

    @hookimpl
    def on_epoch_end(self, trainer):
        self.send(trainer, "epoch end", 2)


@pytest.mark.parametrize("moment", ["step", "validation", "epoch end"])
def test_resumed_run_records_the_overflows_of_an_epoch_that_a_signal_has_interrupted(tmp_path, moment):
    def run(folder, moment="", *, resume=False):
        amp = Amp(dtype="float16", init_scale=16.0)
        parts = {"signals": Signals(), "checkpoint": Checkpoint(), "log": Log(), "stops": Stops(moment)}
        trainer = make_trainer(folder, cls=Overflows, hooks={"amp": amp, **parts}, max_epochs=3)
        trainer.use_amp = True
        if resume:
            trainer.load_checkpoint(CheckpointStore(folder / "checkpoints").load().state)
        try:
            trainer.train(make_loader(), [make_loader(shuffle=False)])
        except Interrupted:
            assert moment
        return {
            epoch: {name: value for name, value in metrics.items() if "seconds" not in name}
            for epoch, metrics in parts["log"].epochs.items()
        }

    whole = run(tmp_path / "whole")
    assert [metrics.get("train/overflows") for metrics in whole.values()] == [None, 2.0, None]
    before = run(tmp_path / "stopped", moment)
    state = CheckpointStore(tmp_path / "stopped/checkpoints").load().state
    assert state["hook_amp"]["in_epoch"] == {"": 2}
    assert list(before) == ([1, 2] if moment == "epoch end" else [1])
    after = run(tmp_path / "stopped", resume=True)
    assert before | after == whole
