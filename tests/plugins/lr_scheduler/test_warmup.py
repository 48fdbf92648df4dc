"""Schedulers with a warm-up: their rates, the end of the training, and resuming."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file

from audiozen_core.errors import ConfigError, RunError
from audiozen_core.testing.tiny import TinyExperiment
from audiozen_core.trainer.scheduler import Scheduler
from audiozen_plugins.lr_scheduler.warmup import InverseSqrt, Noam, WarmupCosine, WarmupLinear


def rates(make, steps, lr=0.5):
    """Returns the learning rate of each optimiser step."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = make(optimizer)
    used = []
    for _ in range(steps):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return used


def test_rates_are_those_of_the_formulas():
    for make, formula in (
        (lambda o: WarmupLinear(o, 4, 10, 0.1), lambda s: s / 4 if s <= 4 else 0.1 + 0.9 * (10 - s) / 6),
        (lambda o: WarmupCosine(o, 4, 10), lambda s: s / 4 if s <= 4 else (1 + math.cos(math.pi * (s - 4) / 6)) / 2),
        (lambda o: InverseSqrt(o, 4), lambda s: min(s / 4, (4 / s) ** 0.5)),
        (lambda o: Noam(o, 4, 16), lambda s: 16**-0.5 * min(s**-0.5, s * 4**-1.5)),
    ):
        assert rates(make, 10) == pytest.approx([0.5 * formula(step) for step in range(1, 11)])


@pytest.mark.parametrize("make", [WarmupCosine, WarmupLinear])
def test_without_warmup_the_first_step_has_the_highest_rate_and_the_last_one_the_lowest(make):
    used = rates(lambda optimizer: make(optimizer, 0, 5, 0.2), 8)
    assert used[0] == 0.5
    assert used[4:] == pytest.approx([0.1] * 4)
    assert sorted(used, reverse=True) == used


def test_the_rate_of_each_group_is_multiplied():
    groups = [{"params": [torch.zeros(1)], "lr": rate} for rate in (1.0, 0.1)]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    WarmupLinear(optimizer, 4, 10)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.25, 0.025])


def tiny(folder, name="warmup_cosine", **args):
    experiment = TinyExperiment(folder).set("lr_scheduler", name, warmup_steps=3, **args)
    return experiment.set("trainer", max_epochs=4, log_interval=1)


def test_the_decay_ends_with_the_training(tmp_path):
    used = tiny(tmp_path).run().metrics("step/lr")
    assert used == pytest.approx(rates(lambda o: WarmupCosine(o, 3, 8), 8, lr=1e-3))
    assert used[-1] == 0


def test_the_decay_ends_at_max_steps_if_this_is_earlier(tmp_path):
    used = tiny(tmp_path).set("trainer", max_steps=6).run().metrics("step/lr")
    assert used == pytest.approx(rates(lambda o: WarmupCosine(o, 3, 6), 6, lr=1e-3))


def test_a_resumed_run_ends_like_an_uninterrupted_one_to_the_last_bit(tmp_path):
    for name in ("whole", "halves"):
        (tmp_path / name).mkdir()
    whole = tiny(tmp_path / "whole").run()
    halves = tiny(tmp_path / "halves", total_steps=8).set("trainer", max_epochs=2)
    halves.run()
    resumed = halves.set("trainer", max_epochs=4).run(resume=True)
    expected, found = (
        load_file(run.folder / "checkpoints/latest/model.safetensors", device="cpu") for run in (whole, resumed)
    )
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert resumed.metrics("step/lr") == whole.metrics("step/lr")


def test_a_longer_training_has_a_later_end(tmp_path):
    experiment = tiny(tmp_path)
    experiment.run()
    used = experiment.set("trainer", max_epochs=6).run(resume=True).metrics("step/lr")
    assert used[:8] == pytest.approx(rates(lambda o: WarmupCosine(o, 3, 8), 8, lr=1e-3))
    assert used[8:] == pytest.approx(rates(lambda o: WarmupCosine(o, 3, 12), 12, lr=1e-3)[8:])


@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_new_length_changes_the_rate_of_the_next_step_in_each_group(as_tensor):
    values = [torch.tensor(rate, dtype=torch.float64) if as_tensor else rate for rate in (0.5, 0.25)]
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in values]
    optimizer = torch.optim.SGD(groups, lr=0.5)
    scheduler = WarmupLinear(optimizer, 2)
    scheduler.set_training_length(4)
    for _ in range(4):
        optimizer.step()
        scheduler.step()
    assert [float(group["lr"]) for group in optimizer.param_groups] == [0.0, 0.0]
    scheduler.set_training_length(8)
    assert [float(group["lr"]) for group in optimizer.param_groups] == [0.25, 0.125]
    if as_tensor:
        assert optimizer.param_groups[0]["lr"] is values[0]


def test_epochs_are_counted_if_the_section_says_so(tmp_path):
    experiment = tiny(tmp_path, "warmup_linear")
    experiment.values["lr_scheduler"]["interval"] = "epoch"
    used = experiment.run().metrics("train/lr")
    assert used == pytest.approx([1e-3 * factor for factor in (1 / 3, 2 / 3, 1, 0)])


def test_a_training_of_unknown_length_needs_its_steps():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    with pytest.raises(RunError, match=r"WarmupCosine must know the length of the training, but .* no length"):
        Scheduler(WarmupCosine(optimizer, 3)).fit_to_training(epochs=2, steps=None)
    Scheduler(WarmupCosine(optimizer, 3, 20)).fit_to_training(epochs=2, steps=None)
    Scheduler(InverseSqrt(optimizer, 3)).fit_to_training(epochs=2, steps=None)


@pytest.mark.parametrize(("name", "args"), [("warmup_cosine", {"final_ratio": 1.5}), ("noam", {"d_model": 0})])
def test_wrong_arguments_are_refused_by_the_checker(tmp_path, name, args):

    with pytest.raises(ConfigError, match=next(iter(args))):
        tiny(tmp_path, name, **args).run()


def test_attributes_of_other_schedulers_do_not_set_the_interval():
    class Own:
        interval = 30

    assert Scheduler(Own()).interval == "epoch"
    assert Scheduler(WarmupLinear(torch.optim.SGD([torch.zeros(1)], lr=1.0), 1)).interval == "step"
