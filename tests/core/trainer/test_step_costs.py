"""What a training step does not do: counted, because a clock would say something else on each machine."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from audiozen_core.errors import HookError
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.hooks.progress import Progress
from audiozen_core.registry.entry import FIRST_PARTY
from audiozen_core.trainer import host_copy, nonfinite
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.learning_rates import LearningRates, learning_rates
from audiozen_core.trainer.step_records import ScalarRow
from audiozen_core.trainer.step_scalars import StepScalars
from audiozen_plugins.hooks.clip_grad_norm import ClipGradNorm
from tests.tiny_training import TinyTrainer, make_loader, make_trainer

STEPS = 5
OWN_FILES = str(Path(host_copy.__file__).parents[1])
LOOKS = ("_foreach_norm", "_amp_foreach_non_finite_check_and_unscale_")
READS = ("aten._local_scalar_dense.default", "aten.item.default", "aten.is_nonzero.default", "aten.equal.default")


class Operations(TorchDispatchMode):
    """Counts the operations of torch by name."""

    def __init__(self):
        super().__init__()
        self.counted = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.counted[str(function)] += 1
        return function(*args, **(kwargs or {}))


class Scales:
    """Changes the gradients in place, by `data` or directly, before they are clipped."""

    phase = "precision"

    def __init__(self, by_data):
        self.by_data = by_data

    @hookimpl.on_gradients_ready
    def on_gradients_ready(self, trainer):
        for weight in trainer.model.parameters():
            (weight.grad.data if self.by_data else weight.grad).mul_(2.0)


def trained(*plugins, **args):
    """Trains one epoch of `STEPS` steps with some hooks."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    components = Components({"": model}, optimizers={"": optimizer}, lifecycle=Lifecycle(plugins), experiment="tiny")
    trainer = TinyTrainer(components, max_epochs=1, **args)
    trainer.train(make_loader())
    assert trainer.progress.step == STEPS
    return trainer


@pytest.fixture
def looks(monkeypatch):
    """Counts how often the gradients are looked through, and how."""
    counted = Counter()
    for name in LOOKS:
        look = getattr(torch, name)

        def counting(*args, look=look, name=name):
            counted[name] += 1
            return look(*args)

        monkeypatch.setattr(torch, name, counting)
    return counted


@pytest.mark.parametrize(
    ("args", "how"),
    [({}, LOOKS[1]), ({"clip_grad_norm_value": 1.0}, LOOKS[0]), ({"plot_norm": True}, LOOKS[0])],
    ids=["neither", "clipping", "recording"],
)
def test_gradients_are_looked_through_once_in_a_step(looks, args, how):
    trained(Plugin("clip", ClipGradNorm(), distribution=FIRST_PARTY), **args)
    assert looks == {how: STEPS}


@pytest.mark.parametrize("by_data", [False, True])
def test_gradients_that_another_hook_has_changed_are_measured_again(looks, by_data):
    clip = Plugin("clip", ClipGradNorm(), distribution=FIRST_PARTY)
    trainer = trained(clip, Plugin("scales", Scales(by_data)), plot_norm=True)
    assert looks == {LOOKS[0]: 2 * STEPS}
    plain = trained(clip, plot_norm=True)
    first, unscaled = trainer.scalars.per_batch[0]["grad_norm"], plain.scalars.per_batch[0]["grad_norm"]
    assert first == pytest.approx(2 * unscaled)


def test_a_version_of_a_gradient_tells_that_it_has_changed(looks):
    scales = Plugin("scales", Scales(by_data=False), distribution=FIRST_PARTY)
    trained(Plugin("clip", ClipGradNorm(), distribution=FIRST_PARTY), scales, plot_norm=True)
    assert looks == {LOOKS[0]: 2 * STEPS}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_check_of_each_element_finds_what_the_norms_find_and_changes_no_gradient(bad, dtype):
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1)).to(dtype)
    for weight in model.parameters():
        weight.grad = torch.randn(weight.shape, dtype=dtype)
    before = [weight.grad.clone() for weight in model.parameters()]
    norms = nonfinite.GradientNorms({"": nonfinite.all_weights({"model": model})})
    assert norms.check() == {}
    assert all(torch.equal(old, weight.grad) for old, weight in zip(before, model.parameters(), strict=True))
    model[0].bias.grad[1] = bad
    for _ in range(2):
        assert "the gradient of `0.bias` of [model] has the norm" in norms.check()[""].complaint()
    model[0].bias.grad[1] = 0.0
    assert norms.check() == {}  # the flag has been put back


@pytest.mark.parametrize("weight", ["sparse", "half"])
def test_what_the_check_of_each_element_does_not_know_is_measured(weight, looks):
    model = nn.Embedding(4, 2, sparse=True) if weight == "sparse" else nn.Linear(4, 1).bfloat16()
    given = torch.tensor([1]) if weight == "sparse" else torch.ones(1, 4, dtype=torch.bfloat16)
    model(given).sum().backward()
    assert nonfinite.GradientNorms({"": nonfinite.all_weights({"model": model})}).check()[""].complaint() is None
    assert looks == {LOOKS[0]: 1}


@pytest.mark.parametrize("args", [{}, {"clip_grad_norm_value": 1.0, "plot_norm": True}], ids=["plain", "norms"])
def test_a_step_reads_no_tensor_where_reading_would_wait(monkeypatch, args):
    # As on a GPU: values are copied and read some steps later. Here they are kept as they are.
    monkeypatch.setattr(StepScalars, "lag", 8)
    monkeypatch.setattr(host_copy.HostCopy, "__init__", lambda self, scalars: vars(self).update(_values=scalars))
    monkeypatch.setattr(host_copy.HostCopy, "read", lambda self: dict.fromkeys(self._values, 0.0))
    monkeypatch.setattr(nonfinite.GradientNorms, "check", nonfinite.GradientNorms.measure)
    monkeypatch.setattr(nonfinite.MeasuredGradients, "is_on_gpu", True)
    trainer = make_trainer(hooks={"clip": ClipGradNorm()}, optimizer=lambda w: torch.optim.SGD(w, lr=0.01), **args)
    reads, original = [], trainer._train_batch

    def counted(*batch):
        with Operations() as operations:
            original(*batch)
        reads.append({name: operations.counted[name] for name in READS if operations.counted[name]})

    trainer._train_batch = counted
    trainer.max_epochs = 1
    trainer.train(make_loader())
    assert reads == [{}] * STEPS
    with Operations() as operations:  # negative control
        float(torch.ones(()))
    assert operations.counted[READS[0]] == 1


class Watches:
    """Implements one hook of a step."""

    def __init__(self):
        self.calls = 0

    @hookimpl.on_training_step_end
    def on_training_step_end(self, batch_idx):
        self.calls += 1


def test_only_the_implementations_of_a_hook_are_called(monkeypatch):
    called = Counter()

    def profile(frame, event, argument):
        if event == "call" and frame.f_code.co_filename.endswith("hooks/calls.py"):
            called[frame.f_code.co_name] += 1

    watches, trainer = Watches(), None
    trainer = make_trainer(hooks={"watches": watches}, max_epochs=1)
    original = trainer._train_batch

    def counted(*batch):
        sys.setprofile(profile)
        try:
            original(*batch)
        finally:
            sys.setprofile(None)

    trainer._train_batch = counted
    trainer.train(make_loader())
    assert watches.calls == STEPS
    # One call for the only hook that has an implementation. The others are functions that return at once.
    assert called == {"call": STEPS}


def test_learning_rates_are_named_anew_only_if_one_has_changed():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    rates = LearningRates({"": optimizer})
    first = rates.current()
    assert rates.current() is first
    optimizer.param_groups[0]["lr"] = 0.2
    assert rates.current() == learning_rates({"": optimizer}) == {"lr": 0.2}
    assert first == {"lr": 0.1}
    optimizer.param_groups[0]["lr"] = torch.tensor(0.3)
    noted = rates.current()
    optimizer.param_groups[0]["lr"].fill_(0.4)  # in place
    assert [float(noted["lr"]), float(rates.current()["lr"])] == pytest.approx([0.3, 0.4])
    optimizer.add_param_group({"params": [torch.zeros(1)], "lr": 0.5})
    assert set(rates.current()) == {"lr_0", "lr_1"}


def test_an_optimizer_with_a_zero_grad_of_its_own_is_asked():
    class Counts(torch.optim.SGD):
        asked = 0

        def zero_grad(self, set_to_none=True):
            type(self).asked += 1
            super().zero_grad(set_to_none)

    trainer = make_trainer(optimizer=lambda weights: Counts(weights, lr=0.01), max_epochs=1)
    trainer.train(make_loader())
    assert Counts.asked >= STEPS
    assert all(weight.grad is None for weight in trainer.model.parameters())


def operations_of_steps(trainer):
    """Trains one epoch, and counts the operations of torch in each step."""
    original, counted = trainer._train_batch, []

    def counting(*batch):
        with Operations() as operations:
            original(*batch)
        counted.append(operations.counted)

    trainer._train_batch = counting
    trainer.train(make_loader())
    return counted


def test_a_step_adds_few_operations_of_torch_to_those_of_a_plain_loop():
    trainer = make_trainer(optimizer=lambda weights: torch.optim.SGD(weights, lr=0.01), max_epochs=1)
    counted = operations_of_steps(trainer)
    batch = next(iter(make_loader().epoch(1)))
    with Operations() as plain:
        trainer.training_step(batch, 0)["loss"].backward()
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
    # Both sides copy the network's input, because the hooks on the network do that.
    added = {
        "aten._amp_foreach_non_finite_check_and_unscale_.default": 1,
        "aten._local_scalar_dense.default": 2,  # the loss, and whether a gradient is not finite
    }
    # The first step also finds the weights.
    assert [step - plain.counted for step in counted[1:]] == [added] * (STEPS - 1)
    assert plain.counted["aten.clone.default"] == 1


class TakesOutputs:
    """Takes the outputs of a step."""

    def __init__(self):
        self.outputs = []

    @hookimpl.on_training_step_end
    def on_training_step_end(self, outputs):
        self.outputs.append(outputs)


class ReturnsMore(TinyTrainer):
    """Also returns two tensors that are not losses, one of them in a list."""

    def training_step(self, batch, batch_idx):
        result = super().training_step(batch, batch_idx)
        return {**result, "negative": result["loss"].neg(), "listed": [result["loss"].neg()]}


def test_outputs_are_detached_only_for_a_hook_that_takes_them():
    takes, detached = TakesOutputs(), {}
    for name, hook in (("takes", takes), ("does not", Watches())):
        trainer = make_trainer(cls=ReturnsMore, hooks={name: hook}, max_epochs=1)
        detached[name] = [step["aten.detach.default"] for step in operations_of_steps(trainer)]
        assert [step["negative"] for step in trainer.scalars.per_batch] == [
            -step["loss"] for step in trainer.scalars.per_batch
        ]
    # The backward pass detaches tensors, too.
    assert detached["takes"] == [count + 3 for count in detached["does not"]]
    tensors = [tensor for outputs in takes.outputs for tensor in (outputs["negative"], *outputs["listed"])]
    assert len(tensors) == 2 * STEPS
    assert not any(tensor.requires_grad for tensor in tensors)


def own_calls(trainer):
    """Trains one epoch, and counts the calls of AudioZEN's own functions in each step."""
    called, original = [], trainer._train_batch

    def profile(frame, event, argument):
        if event == "call" and frame.f_code.co_filename.startswith(OWN_FILES):
            called[-1][f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}"] += 1

    def counted(*batch):
        called.append(Counter())
        sys.setprofile(profile)
        try:
            original(*batch)
        finally:
            sys.setprofile(None)

    trainer._train_batch = counted
    trainer.train(make_loader())
    return called


def test_a_step_makes_few_calls_of_its_own():
    trainer = make_trainer(optimizer=lambda weights: torch.optim.SGD(weights, lr=0.01), max_epochs=1)
    called = own_calls(trainer)[1:]  # the first step also looks for new weights
    assert len(called) == STEPS - 1
    assert max(each.total() for each in called) <= 65
    # Negative control: this function, which is called in each step, has been counted.
    assert all(each["batch_training.forward_batch"] == 1 for each in called)


class AddsScalars:
    """Adds a scalar to the record of a step."""

    def __init__(self):
        self.asked, self.records = [], []

    @hookimpl.step_scalars
    def step_scalars(self, step):
        self.asked.append(step)
        return {"waited": 0.5 * step}

    @hookimpl.on_log
    def on_log(self, metrics, step):
        self.records.append((step, metrics.get("step/waited"), "step/loss" in metrics))


@pytest.mark.parametrize("lag", [0, 8])
def test_hooks_are_asked_for_scalars_only_when_a_step_is_recorded_and_the_step_has_one_record(monkeypatch, lag):
    monkeypatch.setattr(StepScalars, "lag", lag)  # on a GPU, losses are read later
    adds = AddsScalars()
    make_trainer(hooks={"adds": adds}, max_epochs=2, log_interval=2).train(make_loader())
    assert adds.asked == [2, 4, 6, 8, 10]
    assert [record for record in adds.records if record[1]] == [(step, 0.5 * step, True) for step in adds.asked]
    assert len(adds.records) == len(adds.asked) + 2  # and the records of two epochs


def test_a_hook_can_not_add_a_scalar_with_the_name_of_a_learning_rate():
    class AddsRate:
        @hookimpl.step_scalars
        def step_scalars(self):
            return {"lr": 1.0}

    with pytest.raises(HookError, match="adds the scalar `lr` in `step_scalars`, but the trainer already uses"):
        make_trainer(hooks={"adds": AddsRate()}, max_epochs=1, log_interval=1).train(make_loader())


def test_scalars_of_a_hook_are_recorded_if_only_other_ranks_have_a_batch_in_the_step():
    progress = Progress()
    scalars = StepScalars(progress, torch.device("cpu"), {}, judge=lambda error: None)
    for step in (1, 2):
        if step == 1:  # in the second step, the batch of this rank is skipped
            scalars.add({"loss": 1.0}, losses=(), batch_idx=0, batch=None)
        progress.step = step
        scalars.close_step(step, {"lr": 0.1}, {"waited": 0.5 * step})
        scalars.combine(lambda rows: [ScalarRow(step - 1, 1, {"loss": 2.0})])  # noqa: B023
        (record,) = scalars.take_records()
        assert record.metrics == {"lr": 0.1, "waited": 0.5 * step, "loss": 2.0}
