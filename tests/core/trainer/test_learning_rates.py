"""The learning rates in the records: those of the steps, with a name for each group and optimiser."""

import numpy as np
import pytest
import torch
from torch import nn

from audiozen_core.errors import RunError
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.trainer.learning_rates import learning_rates
from audiozen_core.trainer.scheduler import Scheduler
from audiozen_plugins.hooks.progress import ProgressBar
from tests.tiny_training import TinyTrainer, make_loader, make_trainer, state_of


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


def test_groups_that_share_a_name_have_a_record_each():
    def rates(*groups):
        weights = [
            {"params": [nn.Parameter(torch.zeros(1))], "lr": index, **group} for index, group in enumerate(groups)
        ]
        return learning_rates({"": torch.optim.SGD(weights)})

    assert rates({"name": "head"}, {"name": "head"}, {}) == {"lr_head_0": 0, "lr_head_1": 1, "lr_2": 2}
    assert rates({"name": "1"}, {}) == {"lr_1_0": 0, "lr_1": 1}


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


class Counts(TinyTrainer):
    """Each step also returns the index of its batch, so each record says which batch its scalars are of."""

    def training_step(self, batch, batch_idx):
        return {"loss": self._error(batch), "batch": batch_idx}


def counting(folder, records, *hooks, window=1, **options):
    trainer = make_trainer(
        folder,
        cls=Counts,
        max_epochs=1,
        log_interval=2,
        gradient_accumulation_steps=window,
        hooks={"records": records, **{f"hook{index}": hook for index, hook in enumerate(hooks)}},
        optimizer=lambda weights: torch.optim.SGD(weights, lr=1.0),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5),
        interval="step",
        **options,
    )
    trainer.scalars._device = torch.device("cuda")
    return trainer


@pytest.mark.parametrize(
    ("window", "batches"), [(1, [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]), (3, [5, 11, 17]), (10, [19])]
)
def test_a_record_has_step_loss_and_rate_of_one_step_although_a_gpu_is_read_late(tmp_path, window, batches):
    records = Records()
    trainer = counting(tmp_path, records, window=window)
    trainer.train(make_loader(20, batch_size=1))
    found = [(step, metrics) for step, metrics in records.found if "step/batch" in metrics]
    assert [step for step, _ in found] == [2 * count for count in range(1, len(batches) + 1)]
    assert [metrics["step/batch"] for _, metrics in found] == batches
    assert [metrics["step/lr"] for _, metrics in found] == [0.5 ** (step - 1) for step, _ in found]


def test_a_checkpoint_within_an_epoch_comes_after_the_records_of_its_steps(tmp_path):
    """Otherwise a run that resumes from it would never record them."""

    class Saves:
        @hookimpl
        def on_training_step_end(self, trainer, batch_idx):
            if batch_idx == 4:
                self.state = state_of(trainer)
                self.recorded = list(records.of("step/batch"))

    records, saves = Records(), Saves()
    counting(tmp_path, records, saves).train(make_loader(10, batch_size=1))
    assert saves.recorded == [1, 3]
    again = Records()
    resumed = counting(tmp_path, again)
    resumed.load_checkpoint(saves.state)
    resumed.train(make_loader(10, batch_size=1))
    assert again.of("step/batch") == [5, 7, 9]


def test_a_step_whose_batches_were_all_left_out_has_no_record(tmp_path):
    class LeavesOut:
        @hookimpl
        def skip_batch(self, batch_idx):
            return batch_idx == 3 or None

    for device in ("cpu", "cuda"):
        records = Records()
        trainer = counting(tmp_path, records, LeavesOut())
        trainer.scalars._device = torch.device(device)
        trainer.train(make_loader(8, batch_size=1))
        assert records.of("step/batch") == [1, 5, 7]


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
            self.state = state_of(trainer)

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


class Sets:
    """A scheduler that sets the rate of the last group to a value when it steps."""

    def __init__(self, optimizer, value):
        self.optimizer, self.value = optimizer, value

    def step(self):
        self.optimizer.param_groups[-1]["lr"] = self.value

    def state_dict(self):
        return {}

    def load_state_dict(self, state_dict): ...


@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("0.1", "'0.1'"),
        (None, "None"),
        (True, "True"),
        ([0.1], "a list"),
        (torch.ones(2), "a Tensor of shape [2]"),
    ],
)
def test_rate_that_is_not_a_number_is_an_error_of_the_scheduler(value, shown, interval):
    trainer = make_trainer(scheduler=lambda optimizer: Sets(optimizer, value), interval=interval, max_epochs=2)
    with pytest.raises(RunError) as error:
        trainer.train(make_loader())
    message = f"[lr_scheduler] Sets has set the learning rate to {shown}, which is not a number"
    assert error.value.message == message


@pytest.mark.parametrize("value", [1, 0.1, np.float32(0.1), torch.tensor(0.1)])
def test_rate_of_any_type_of_number_is_accepted(value):
    trainer = make_trainer(scheduler=lambda optimizer: Sets(optimizer, value), interval="step", max_epochs=1)
    trainer.train(make_loader())
    assert trainer.optimizer.param_groups[0]["lr"] is value


def test_rate_that_a_scheduler_sets_when_it_is_made_names_section_and_group():
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": weights[:1]}, {"params": weights[1:]}], lr=0.1)
    Sets(optimizer, "fast").step()
    with pytest.raises(RunError, match=r"\[lr_scheduler_g\] Sets .* of parameter group 1 to 'fast', which"):
        Scheduler(Sets(optimizer, "fast"), section="lr_scheduler_g").check_learning_rates(optimizer)


def test_optimizer_that_was_made_without_a_rate_may_have_a_scheduler():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    optimizer.defaults["lr"] = None
    Sets(optimizer, None).step()
    Scheduler(Sets(optimizer, None)).check_learning_rates(optimizer)


def test_optimizer_without_a_rate_does_not_end_the_run(capsys):
    class NoRate(torch.optim.SGD):
        def step(self, closure=None):
            self.param_groups[0]["lr"] = 0.1
            super().step()
            self.param_groups[0]["lr"] = None

    hooks = {"progress": ProgressBar(bars=False, line_seconds=0)}
    make_trainer(max_epochs=1, hooks=hooks, optimizer=lambda w: NoRate(w, lr=0.1)).train(make_loader())
    assert "epoch 1/1" in capsys.readouterr().err
