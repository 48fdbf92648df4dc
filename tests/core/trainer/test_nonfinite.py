"""What the error says about a loss or gradient that is not finite, and what the policies do."""

import math

import pytest
import torch
from torch import nn

from audiozen_core.binding.arguments import check_arguments
from audiozen_core.binding.signature import signature_of
from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import RunError
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.hooks.nonfinite import BatchLocation, NonFiniteError, RollbackRequest
from audiozen_core.trainer import checkpointed
from audiozen_core.trainer.step_scalars import StepScalars
from audiozen_plugins.hooks.checkpoint import Checkpoint
from audiozen_plugins.hooks.clip_grad_norm import ClipGradNorm
from audiozen_plugins.hooks.nonfinite import NonFinite
from tests.tiny_training import Pairs, TinyTrainer, make_loader, make_trainer, state_of, weights_of


class BadLoss(TinyTrainer):
    """The loss of one batch is NaN."""

    bad = (2, 1)

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)["loss"]
        return loss * float("nan") if (self.progress.epoch + 1, batch_idx) == self.bad else loss


class _Blow(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("inf")


class BadGradient(TinyTrainer):
    """In one batch the loss is finite, but the gradient of the first layer is infinite."""

    def training_step(self, batch, batch_idx):
        first, second = self.model
        hidden = first(batch["x"])
        if (self.progress.epoch, batch_idx) == (1, 2):
            hidden = _Blow.apply(hidden)
        return (second(hidden) - batch["y"]).square().mean()


def make(*args, hooks=(), **options):
    """Creates a trainer with a `NonFinite` hook, and returns both."""
    hook = NonFinite()
    return make_trainer(*args, hooks={"nonfinite": hook, **dict(hooks)}, **options), hook


def two_layers():
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))


def test_gradient_error_names_the_parameter_the_step_and_the_samples():
    trainer = make_trainer(cls=BadGradient, model=two_layers, max_epochs=3)
    with pytest.raises(NonFiniteError) as error:
        trainer.train(make_loader())
    text = str(error.value)
    assert "the gradient of `0.bias` of [model] has the norm nan (2 of 4 are not finite" in text
    assert "at step 8 (epoch 2, batch 2; samples: sample " in text
    assert weights_of(trainer).isfinite().all()


class BadWeight(TinyTrainer):
    """The optimiser makes a weight NaN in the last step of the second epoch, after losses and gradients were finite."""

    def step_optimizers(self):
        super().step_optimizers()
        if self.progress.step == 9:
            with torch.no_grad():
                self.model[0].bias.fill_(float("nan"))


@pytest.mark.parametrize(
    ("cls", "what", "step", "batch"),
    [
        (BadLoss, "`loss` is nan", 7, 1),
        (BadGradient, "the gradient of `0.bias` of [model] has the norm inf", 8, 2),
        (BadWeight, "the weight `0.bias` of [model] is not finite", 10, 4),
    ],
)
def test_losses_gradients_and_weights_have_errors_that_name_the_same(tmp_path, cls, what, step, batch):
    loader = BatchLoader(Pairs(20), batch_size=4, names=["[dataset]"])
    trainer = make_trainer(tmp_path, cls=cls, model=two_layers, max_epochs=3, hooks={"checkpoint": Checkpoint()})
    with pytest.raises(NonFiniteError) as error:
        trainer.train(loader)
    samples = ", ".join(f"sample {index}" for index in range(4 * batch, 4 * batch + 4))
    assert error.value.message.startswith(what)
    assert error.value.message.endswith(f" at step {step} (epoch 2, batch {batch}; samples: {samples})")
    assert error.value.location == BatchLocation(step, 2, (batch,), tuple(samples.split(", ")))
    assert error.value.notes[-2].startswith("step: ")
    assert error.value.notes[-2].endswith("training_step of [trainer]")
    assert error.value.notes[-1] == "data: the batch is from [dataset]"
    assert "checkpoints are not affected" in error.value.remedy


def test_error_about_a_delayed_loss_has_no_note_about_the_weights(monkeypatch):
    monkeypatch.setattr(StepScalars, "lag", 2)
    with pytest.raises(NonFiniteError) as error:
        make_trainer(cls=BadLoss, max_epochs=3).train(make_loader())
    assert not [note for note in error.value.notes if note.startswith("note: ")]


def test_error_names_the_gradient_even_with_clipping():
    trainer = make_trainer(
        cls=BadGradient, model=two_layers, max_epochs=3, clip_grad_norm_value=1.0, hooks={"clip": ClipGradNorm()}
    )
    with pytest.raises(NonFiniteError, match=r"`0.bias`"):
        trainer.train(make_loader())


def test_error_names_all_accumulated_batches_of_the_step():
    trainer = make_trainer(cls=BadGradient, model=two_layers, max_epochs=3, gradient_accumulation_steps=3)
    with pytest.raises(NonFiniteError, match=r"at step 3 \(epoch 2, batches 0 to 2; samples"):
        trainer.train(make_loader())


def test_error_says_whether_the_weights_were_already_not_finite():
    with pytest.raises(NonFiniteError) as error:
        make_trainer(cls=BadLoss, max_epochs=3).train(make_loader())
    assert "all weights are finite" in str(error.value)

    class Poisoned(TinyTrainer):
        def training_step(self, batch, batch_idx):
            with torch.no_grad():
                self.model[0].bias.fill_(float("nan"))
            return super().training_step(batch, batch_idx)

    with pytest.raises(NonFiniteError) as error:
        make_trainer(cls=Poisoned, max_epochs=3).train(make_loader())
    assert "the weight `0.bias` of [model] was already not finite" in str(error.value)


@pytest.mark.parametrize("cls", [BadLoss, BadGradient])
def test_skipped_batch_counts_as_a_step_and_keeps_the_weights_finite(cls):
    trainer, hook = make(cls=cls, model=two_layers, max_epochs=3, on_nonfinite="skip")
    trainer.train(make_loader())
    assert hook.count == 1
    assert trainer.progress.step == 15
    assert weights_of(trainer).isfinite().all()
    assert all(torch.isfinite(torch.tensor(step["loss"])) for step in trainer.scalars.per_batch)


def test_skipped_batch_has_the_same_effect_as_an_absent_batch():
    class Absent(TinyTrainer):
        # The forward pass draws random numbers, and also runs for a skipped batch.
        def backward_losses(self, losses, **options):
            if (self.progress.epoch + 1, self.progress.batch) != BadLoss.bad:
                super().backward_losses(losses, **options)

    skipped, _ = make(cls=BadLoss, max_epochs=3, on_nonfinite="skip")
    skipped.train(make_loader())
    absent = make_trainer(cls=Absent, max_epochs=3)
    absent.train(make_loader())
    assert torch.equal(weights_of(skipped), weights_of(absent))
    with_all = make_trainer(max_epochs=3)
    with_all.train(make_loader())
    assert not torch.equal(weights_of(skipped), weights_of(with_all))


def test_a_skipped_batch_does_not_change_running_means():
    class Poisoned(Pairs):
        def __getitem__(self, index):
            item = super().__getitem__(index)
            return {**item, "x": item["x"] * float("nan")} if index == 7 else item

    def normalised():
        return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    trainer, hook = make(model=normalised, max_epochs=2, on_nonfinite="skip")
    trainer.train(BatchLoader(Poisoned(), batch_size=4, shuffle=True))
    assert hook.count == 2
    assert trainer.model[1].running_mean.isfinite().all()
    assert trainer.model[1].num_batches_tracked == 8


def test_error_names_at_most_eight_samples():
    few, many = (str(BatchLocation(1, 1, (0,), tuple(f"s{i}" for i in range(count)))) for count in (8, 11))
    assert few.endswith("samples: s0, s1, s2, s3, s4, s5, s6, s7)")
    assert many.endswith("s6, s7 and 3 more)")


def test_remedy_suggests_the_skip_policy():
    with pytest.raises(NonFiniteError) as error:
        make_trainer(cls=BadLoss, max_epochs=3).train(make_loader())
    assert 'on_nonfinite = "skip"' in error.value.remedy


@pytest.mark.parametrize("accumulated", [1, 2])
def test_skip_restores_running_means_if_a_gradient_is_not_finite(accumulated):
    class Blows(TinyTrainer):
        def training_step(self, batch, batch_idx):
            hidden = self.model[1](self.model[0](batch["x"]))
            hidden = _Blow.apply(hidden) if batch_idx == 2 else hidden
            return (self.model[2](hidden) - batch["y"]).square().mean()

    def normalised():
        return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    options = {"max_epochs": 1, "on_nonfinite": "skip", "gradient_accumulation_steps": accumulated}
    trainer, hook = make(cls=Blows, model=normalised, **options)
    trainer.train(make_loader())
    assert hook.count == 1
    assert trainer.model[1].num_batches_tracked == 5 - accumulated


class Flaky(TinyTrainer):
    """The losses of the batches in `bad` are NaN, after the forward pass has updated the running means."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)["loss"]
        return loss * float("nan") if batch_idx in self.bad else loss


@pytest.mark.parametrize("bad", [(0,), (1,), (0, 1)])
def test_skip_undoes_only_the_bad_batches_of_an_accumulation_window(bad):
    def normalised():
        return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    Flaky.bad = bad
    trainer, hook = make(cls=Flaky, model=normalised, max_epochs=2, on_nonfinite="skip", gradient_accumulation_steps=3)
    trainer.train(make_loader())
    assert hook.count == 2 * len(bad)
    assert trainer.model[1].num_batches_tracked == 2 * (5 - len(bad))
    assert trainer.progress.step == 4


def test_checkpoint_stores_the_state_of_the_nonfinite_hook(tmp_path):
    hooks = {"checkpoint": Checkpoint()}
    trainer, hook = make(tmp_path, cls=BadLoss, hooks=hooks, max_epochs=3, on_nonfinite="rollback")
    trainer.train(make_loader())
    again, restored = make(cls=BadLoss, hooks={"checkpoint": Checkpoint()}, max_epochs=3, on_nonfinite="rollback")
    again.load_checkpoint(state_of(trainer))
    assert (restored.count, restored.left_out) == (hook.count, hook.left_out) == (1, {(2, 1)})


class Policy:
    """A third-party hook that uses only the public interface."""

    def __init__(self, answer, *, read_at_once=True):
        self.answer, self.read_at_once, self.errors = answer, read_at_once, []

    @hookimpl
    def on_run_start(self, trainer):
        trainer.scalars.read_at_once = self.read_at_once

    @hookimpl
    def on_nonfinite(self, error):
        self.errors.append(error)
        return self.answer


def test_a_third_party_hook_can_skip_a_batch():
    policy = Policy("skip")
    trainer = make_trainer(cls=BadLoss, max_epochs=3, hooks={"policy": policy})
    trainer.train(make_loader())
    assert [error.location.batches for error in policy.errors] == [(1,)]
    assert weights_of(trainer).isfinite().all()


def test_a_batch_that_has_already_changed_the_weights_cannot_be_skipped(monkeypatch):
    monkeypatch.setattr(StepScalars, "lag", 2)
    with pytest.raises(NonFiniteError, match=r"`loss` is nan at step 7 \(epoch 2, batch 1"):
        make_trainer(cls=BadLoss, max_epochs=3, hooks={"policy": Policy("skip")}).train(make_loader())


class StopsRising:
    """Requests one rollback, and then skips one batch."""

    def __init__(self):
        self.requested = False

    @hookimpl
    def on_training_step_end(self, trainer, batch_idx):
        if (trainer.progress.epoch, batch_idx) == (1, 2) and not self.requested:
            self.requested = True
            raise RollbackRequest(RunError("the loss rises"))

    @hookimpl
    def skip_batch(self, trainer, batch_idx):
        return (trainer.progress.epoch, batch_idx) == (1, 1) and self.requested


def test_any_hook_can_request_a_rollback_and_skip_a_batch(tmp_path):
    class Records:
        def __init__(self):
            self.ends = []

        @hookimpl
        def on_training_step_end(self, trainer, batch, batch_idx, outputs):
            self.ends.append((trainer.progress.epoch + 1, batch_idx, batch is not None and bool(outputs)))

    records = Records()
    hooks = {"checkpoint": Checkpoint(), "stops": StopsRising(), "a records": records}
    trainer = make_trainer(tmp_path, hooks=hooks, max_epochs=2)
    trainer.train(make_loader())
    first = [(1, batch_idx, True) for batch_idx in range(5)]
    second = [(2, batch_idx, True) for batch_idx in range(5)]
    assert records.ends == [*first, *second[:3], second[0], (2, 1, False), *second[2:]]
    assert trainer.progress.step == 10


def test_rollback_request_without_a_handler_raises_its_reason():
    with pytest.raises(RunError, match="the loss rises"):
        make_trainer(hooks={"stops": StopsRising()}, max_epochs=2).train(make_loader())


def test_weights_are_checked_once_at_the_end_of_an_epoch(tmp_path, monkeypatch):
    checks = []
    monkeypatch.setattr(
        checkpointed, "check_weights", lambda modules, last_step, ranks: checks.append(last_step and last_step.step)
    )
    hooks = {"checkpoint": Checkpoint()}
    trainer = make_trainer(tmp_path, hooks=hooks, max_epochs=2, save_ckpt_async=False)
    trainer.train(make_loader())
    assert sorted(path.name for path in (tmp_path / "checkpoints").glob("epoch_*")) == ["epoch_0001", "epoch_0002"]
    assert checks == [5, 10]


def test_weights_are_checked_for_each_checkpoint_within_an_epoch(tmp_path, monkeypatch):
    checks = []
    monkeypatch.setattr(
        checkpointed, "check_weights", lambda modules, last_step, ranks: checks.append(last_step and last_step.step)
    )
    make_trainer(
        tmp_path, hooks={"checkpoint": Checkpoint()}, max_epochs=1, save_ckpt_interval_steps=2, save_ckpt_async=False
    ).train(make_loader())
    assert checks == [2, 4, 5]


def test_weights_that_a_hook_makes_bad_after_the_epoch_are_not_saved(tmp_path):
    class Spoils:
        @hookimpl
        def on_epoch_end(self, trainer, epoch, metrics):
            with torch.no_grad():
                next(trainer.model.parameters()).fill_(math.nan)

    trainer = make_trainer(tmp_path, hooks={"checkpoint": Checkpoint(), "spoils": Spoils()}, max_epochs=1)
    with pytest.raises(RunError, match="not finite"):
        trainer.train(make_loader())
    assert not list((tmp_path / "checkpoints").glob("epoch_*"))


def test_run_stops_after_too_many_skipped_batches():
    class Always(TinyTrainer):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx)["loss"] * float("inf")

    trainer, _ = make(cls=Always, on_nonfinite="skip", max_nonfinite=3)
    with pytest.raises(NonFiniteError) as error:
        trainer.train(make_loader())
    assert "4 times, more than `max_nonfinite = 3`" in error.value.remedy
    assert trainer.progress.step == 3


@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize("bad", [(1, 1), (2, 1), (3, 4)])
def test_rollback_restores_the_checkpoint_and_continues_without_the_batch(tmp_path, bad, asynchronous):
    class Bad(BadLoss):
        pass

    Bad.bad = bad
    options = {"max_epochs": 3, "on_nonfinite": "rollback", "save_ckpt_async": asynchronous}
    trainer, hook = make(tmp_path / "run", cls=Bad, hooks={"checkpoint": Checkpoint()}, **options)
    trainer.train(make_loader(), [make_loader()])
    assert hook.left_out == {bad}
    assert trainer.progress.epoch == 3

    class Absent(TinyTrainer):
        def forward_batch(self, batch, batch_idx):
            return ({}, {}) if (self.progress.epoch + 1, batch_idx) == bad else super().forward_batch(batch, batch_idx)

    absent = make_trainer(cls=Absent, max_epochs=3)
    absent.train(make_loader(), [make_loader()])
    assert torch.equal(weights_of(trainer), weights_of(absent))


@pytest.mark.parametrize("every", [None, 1])
def test_rollback_restores_weights_from_before_a_delayed_nan_loss(tmp_path, monkeypatch, every):
    monkeypatch.setattr(StepScalars, "lag", 2)  # as on a GPU: the NaN reaches the weights before the loss is read
    options = {"max_epochs": 3, "on_nonfinite": "rollback", "save_ckpt_interval_steps": every}
    trainer, hook = make(tmp_path / "run", cls=BadLoss, hooks={"checkpoint": Checkpoint()}, **options)
    trainer.train(make_loader(), [make_loader()])
    assert hook.left_out == {(2, 1)}

    class Absent(TinyTrainer):
        def forward_batch(self, batch, batch_idx):
            return (
                ({}, {}) if (self.progress.epoch + 1, batch_idx) == (2, 1) else super().forward_batch(batch, batch_idx)
            )

    absent = make_trainer(cls=Absent, max_epochs=3)
    absent.train(make_loader(), [make_loader()])
    assert torch.equal(weights_of(trainer), weights_of(absent))


def test_run_stops_after_too_many_rollbacks(tmp_path):
    class Always(TinyTrainer):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx)["loss"] * float("nan")

    hooks = {"checkpoint": Checkpoint()}
    trainer, _ = make(tmp_path, cls=Always, hooks=hooks, on_nonfinite="rollback", max_nonfinite=2)
    with pytest.raises(NonFiniteError, match="batch 2"):
        trainer.train(make_loader())


def test_rollback_without_a_checkpoint_raises_the_error():
    with pytest.raises(NonFiniteError):
        make(cls=BadLoss, max_epochs=3, on_nonfinite="rollback")[0].train(make_loader())


@pytest.mark.parametrize("argument", ["on_nonfinite", "on_bad_data"])
def test_config_check_rejects_an_unknown_policy(argument):
    (found,) = check_arguments(signature_of(TinyTrainer), {argument: "skipp"}, injected=("components",))
    assert (found.place, found.suggestion) == (("args", argument), '"skip"')


@pytest.mark.parametrize("minutes", [math.nan, math.inf, -1.0])
def test_out_of_range_number_of_minutes_is_rejected(minutes):
    with pytest.raises(RunError, match=f"`save_ckpt_minutes` is {minutes}, but must be at least 0"):
        make_trainer(save_ckpt_minutes=minutes)
    make_trainer(save_ckpt_minutes=0.5)


def test_an_argument_may_be_an_integer_too_large_for_a_float():
    assert make_trainer(max_steps=10**400, clip_grad_norm_value=10**400).max_steps == 10**400
