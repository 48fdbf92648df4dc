"""The learning rates in the records: those of the steps, with a name for each group and optimiser."""

import pytest
import torch
from torch import nn

from audiozen_core.hooks.specs import hookimpl
from audiozen_core.trainer.learning_rates import learning_rates
from audiozen_plugins.hooks.progress import ProgressBar
from tests.tiny_training import TinyTrainer, make_loader, make_trainer


class Records:
    def __init__(self):
        self.found = []

    @hookimpl
    def on_log(self, metrics, step):
        self.found.append((step, dict(metrics)))

    def of(self, name):
        return [metrics[name] for _, metrics in self.found if name in metrics]


def test_groups_and_optimizers_have_names():
    def groups(*names):
        weights = [[nn.Parameter(torch.zeros(1))] for _ in names]
        return [{"params": weights[index], "lr": 0.1 * index, **name} for index, name in enumerate(names)]

    one, two = torch.optim.SGD(groups({})), torch.optim.SGD(groups({}, {"name": "head"}))
    assert learning_rates({"": one}) == {"lr": 0.0}
    assert learning_rates({"g": one, "d": two}) == {"lr_g": 0.0, "lr_d_0": 0.0, "lr_d_head": 0.1}


def test_group_without_a_rate_is_left_out_and_a_tensor_is_copied():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=torch.tensor(0.5))
    (rate,) = learning_rates({"": optimizer}).values()
    optimizer.param_groups[0]["lr"].fill_(7.0)
    assert float(rate) == 0.5
    optimizer.param_groups[0]["lr"] = None
    assert learning_rates({"": optimizer}) == {}


@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_record_has_the_rate_of_the_step_and_not_that_of_the_next(tmp_path, interval):
    records = Records()
    trainer = make_trainer(
        tmp_path,
        max_epochs=2,
        log_interval=1,
        hooks={"records": records},
        optimizer=lambda weights: torch.optim.SGD(weights, lr=1.0),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5),
        interval=interval,
    )
    trainer.train(make_loader(8))
    epochs, steps = ([1, 0.5], [1, 1, 0.5, 0.5]) if interval == "epoch" else ([0.5, 0.125], [1, 0.5, 0.25, 0.125])
    assert records.of("train/lr") == epochs
    assert records.of("step/lr") == steps


@pytest.mark.parametrize("window", [1, 3, 10])
def test_loss_and_rate_of_a_record_are_of_one_step_although_a_gpu_is_read_late(tmp_path, window):
    """The step also returns the index of its batch, so each record says which batch its scalars are of."""

    class Counts(TinyTrainer):
        def training_step(self, batch, batch_idx):
            return {"loss": self._error(batch), "batch": batch_idx}

    records = Records()
    trainer = make_trainer(
        tmp_path,
        cls=Counts,
        max_epochs=1,
        log_interval=1,
        gradient_accumulation_steps=window,
        hooks={"records": records},
        optimizer=lambda weights: torch.optim.SGD(weights, lr=1.0),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5),
        interval="step",
    )
    trainer.scalars._device = torch.device("cuda")
    trainer.train(make_loader(20, batch_size=1))
    read = records.of("step/batch")
    assert read[0] < 19
    assert records.of("step/lr") == [0.5 ** (batch // window) for batch in read]


def test_resume_at_the_end_of_an_epoch_records_the_rate_of_its_last_step(tmp_path):
    def make(records):
        return make_trainer(
            tmp_path,
            max_epochs=1,
            hooks={"records": records},
            optimizer=lambda weights: torch.optim.SGD(weights, lr=1.0),
            scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5),
            interval="step",
        )

    class Saves:
        @hookimpl
        def on_training_step_end(self, trainer):
            self.state = trainer.checkpoint()

    whole, saves = Records(), Saves()
    trainer = make(whole)
    trainer.hooks.on_training_step_end = lambda trainer, **_: saves.on_training_step_end(trainer)
    trainer.train(make_loader(8))
    again = Records()
    resumed = make(again)
    resumed.load_checkpoint(saves.state)
    assert resumed.progress.batch == 2
    resumed.train(make_loader(8))
    assert again.found == whole.found
    assert again.of("train/lr") == [0.5]


def test_console_shows_all_groups(capsys):
    def optimizer(weights):
        first, *others = weights
        return torch.optim.SGD([{"params": [first]}, {"params": others, "lr": 0.01}], lr=0.1)

    hooks = {"progress": ProgressBar(bars=False, line_seconds=0)}
    make_trainer(max_epochs=1, hooks=hooks, optimizer=optimizer).train(make_loader())
    said = capsys.readouterr().err
    assert "lr=0.1/0.01" in said
    assert "lr 0.1/0.01" in said


def test_optimizer_without_a_rate_does_not_end_the_run(capsys):
    class NoRate(torch.optim.SGD):
        def step(self, closure=None):
            self.param_groups[0]["lr"] = 0.1
            super().step()
            self.param_groups[0]["lr"] = None

    hooks = {"progress": ProgressBar(bars=False, line_seconds=0)}
    make_trainer(max_epochs=1, hooks=hooks, optimizer=lambda w: NoRate(w, lr=0.1)).train(make_loader())
    assert "epoch 1/1" in capsys.readouterr().err
