"""Weights that nothing trains, and networks that are in the wrong mode, are warnings."""

import pytest
import torch
from torch import nn

from audiozen_core.hooks.marker import hookimpl
from audiozen_core.trainer.components import Components
from tests.tiny_training import TinyTrainer, make_loader, make_trainer, state_of

UNTRAINED = "no optimiser trains"
UNREACHED = "no weight of [model_t] had a gradient in epoch 1, so [optimizer_t] trains nothing"
STAYS = "stays in training mode in an evaluation"


class OfTwo(TinyTrainer):
    """Trains the first of two networks, and from its second epoch on also the second, if it is told to."""

    both = False

    @property
    def model(self):
        return self.models[""]

    def training_step(self, batch, batch_idx):
        with_other = self.both and self.progress.epoch
        return self._error(batch) + (self.models["t"](batch["x"]).square().mean() if with_other else 0)


def of_two(folder, *, optimizers, frozen=False, both=False):
    nets = {name: nn.Linear(4, 1) for name in ("", "t")}
    nets["t"].requires_grad_(not frozen)
    made = {name: torch.optim.SGD(nets[name].parameters(), lr=0.1) for name in optimizers}
    trainer = OfTwo(Components(nets, optimizers=made, folder=folder), max_epochs=2)
    trainer.both = both
    trainer.train(make_loader())


@pytest.mark.parametrize(("frozen", "warnings"), [(False, 1), (True, 0)])
def test_network_without_an_optimizer_is_a_warning_unless_it_is_frozen(tmp_path, capsys, frozen, warnings):
    of_two(tmp_path, optimizers=[""], frozen=frozen)
    log = capsys.readouterr().err
    assert log.count(f"{UNTRAINED} 2 of the weights of [model_t] that require gradients") == warnings
    assert log.count("train them with [optimizer_t], or freeze them") == warnings


def test_optimizer_that_leaves_weights_out_is_a_warning_that_names_them(tmp_path, capsys):
    trainer = make_trainer(
        tmp_path,
        model=lambda: nn.Linear(4, 1),
        optimizer=lambda weights: torch.optim.SGD(list(weights)[:1], lr=0.1),
    )
    trainer.train(make_loader())
    log = capsys.readouterr().err
    assert log.count(f"{UNTRAINED} 1 of the weights of [model] that require gradients") == 1
    assert "weights=bias" in log


@pytest.mark.parametrize(
    ("options", "warnings"), [({}, 1), ({"both": True}, 1), ({"frozen": True}, 0)], ids=["unused", "later", "frozen"]
)
def test_network_that_no_loss_depends_on_is_a_warning(tmp_path, capsys, options, warnings):
    of_two(tmp_path, optimizers=["", "t"], **options)
    log = capsys.readouterr().err
    assert log.count(UNREACHED) == warnings
    assert UNTRAINED not in log


class StopAfter:
    """Stops after a step, within its epoch."""

    def __init__(self, step):
        self.step = step

    @hookimpl
    def stop_within_epoch_reason(self, trainer):
        return "asked" if trainer.progress.step == self.step else None


def test_run_that_is_resumed_after_the_last_step_of_an_epoch_has_nothing_to_warn_of(tmp_path, capsys):
    stopped = make_trainer(tmp_path, hooks={"stop": StopAfter(5)}, max_epochs=1)
    stopped.train(make_loader())
    assert (stopped.progress.epoch, stopped.progress.batch) == (0, 5)
    resumed = make_trainer(tmp_path, max_epochs=1)
    resumed.load_checkpoint(state_of(stopped))
    resumed.train(make_loader())
    assert (resumed.progress.epoch, resumed.progress.step) == (1, 5)
    assert "trains nothing" not in capsys.readouterr().err


class Stays(nn.Linear):
    """Forgets the argument of `train`, as networks do that freeze a part of themselves there."""

    def __init__(self):
        super().__init__(4, 1)

    def train(self, mode=True):
        return super().train()


@pytest.mark.parametrize(("model", "warnings"), [(Stays, 1), (lambda: nn.Linear(4, 1), 0)], ids=["stays", "plain"])
def test_network_that_stays_in_training_mode_is_a_warning_once(tmp_path, capsys, model, warnings):
    trainer = make_trainer(tmp_path, model=model, max_epochs=3)
    trainer.train(make_loader(), [make_loader(shuffle=False)])
    log = capsys.readouterr().err
    assert log.count(f"[model] {STAYS}") == warnings
    assert UNTRAINED not in log
    assert "trains nothing" not in log


class Evaluates:
    """Looks at the network in evaluation mode within an epoch, and may forget to switch back."""

    def __init__(self, back):
        self.back = back

    @hookimpl
    def on_optimizer_step_end(self, trainer):
        trainer.model.eval()
        trainer.model.train(self.back)


@pytest.mark.parametrize(("back", "warnings"), [(False, 1), (True, 0)])
def test_network_that_a_hook_leaves_in_evaluation_mode_is_a_warning_once(tmp_path, capsys, back, warnings):
    trainer = make_trainer(tmp_path, hooks={"evaluates": Evaluates(back)}, max_epochs=3)
    trainer.train(make_loader())
    assert capsys.readouterr().err.count("[model] is in evaluation mode at the end of a training epoch") == warnings
