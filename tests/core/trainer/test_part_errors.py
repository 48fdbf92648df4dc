"""An error in the methods of a trainer, or in what they call, says which method, which batch and which samples."""

import pytest
import torch
from torch import nn

from audiozen_core.errors import DataError, HookError, RunError
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.trainer.scheduler import Scheduler
from tests.tiny_training import TinyTrainer, make_loader, make_trainer


def broken(method):
    """Returns a trainer in which a method raises an error."""

    def raises(self, *arguments):
        raise KeyError("mask")

    raises.__qualname__ = f"Mine.{method}"
    return make_trainer(cls=type("Mine", (TinyTrainer,), {method: raises}), max_epochs=1)


def run(trainer, method):
    """Runs the mode that calls the method."""
    if method.startswith("test"):
        trainer.test([make_loader()])
    else:
        trainer.train(make_loader(), [make_loader()])


@pytest.mark.parametrize("method", ["training_step", "validation_step", "test_step"])
def test_error_of_a_step_names_the_method_the_batch_and_the_samples(method):
    trainer = broken(method)
    with pytest.raises(RunError) as caught:
        run(trainer, method)
    error = caught.value
    assert error.message == f"Mine.{method} failed in batch 0: KeyError: 'mask'"
    assert error.notes[0].startswith("batch: a dict of x: float32 [4, 4], y: float32 [4, 1], id: a list of (str, ")
    assert error.notes[1].startswith("samples: sample ")
    assert error.notes[2].startswith(f"raised in: {__file__}:")
    assert isinstance(error.__cause__, KeyError)


@pytest.mark.parametrize("mode", ["train", "test"])
def test_error_of_prepare_batch_names_the_method_the_batch_and_the_samples(mode):
    trainer = broken("prepare_batch")
    with pytest.raises(RunError) as caught:
        run(trainer, mode)
    error = caught.value
    assert error.message == "Mine.prepare_batch failed in batch 0: KeyError: 'mask'"
    assert error.notes[0].startswith("batch: a dict of x: float32 [4, 4]")
    assert error.notes[1].startswith("samples: sample ")


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize("own", [(), ("samples: mine",)], ids=["without", "with"])
def test_error_of_audiozen_itself_names_the_samples_once(mode, own):
    class Refuses(TinyTrainer):
        def _error(self, batch):
            raise DataError("too quiet", notes=("level: -90 dB", *own))

    with pytest.raises(DataError) as caught:
        run(make_trainer(cls=Refuses, max_epochs=1), mode)
    level, *others = caught.value.notes
    assert level == "level: -90 dB"
    samples = [note for note in others if note.startswith("samples: ")]
    assert len(samples) == 1
    assert samples == list(own) or samples[0].startswith("samples: sample ")


@pytest.mark.parametrize("method", ["training_epoch_end", "validation_epoch_end", "test_epoch_end"])
def test_error_after_the_last_step_names_the_method(method):
    trainer = broken(method)
    with pytest.raises(RunError, match=rf"Mine\.{method} failed: KeyError: 'mask'"):
        run(trainer, method)


def test_error_of_a_scheduler_of_any_kind_names_the_scheduler():
    class Broken:
        def step(self):
            raise TypeError("no metric")

    with pytest.raises(RunError, match="Broken can't step: TypeError: no metric") as caught:
        Scheduler(Broken()).step("epoch", None)
    assert "[lr_scheduler.args]" in caught.value.remedy


def test_a_full_disk_in_a_step_stays_an_error_of_the_operating_system():
    class Writes(TinyTrainer):
        def test_step(self, batch, batch_idx, dataloader_idx):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        make_trainer(cls=Writes).test([make_loader()])


@pytest.mark.parametrize("mode", ["train", "validate", "test", "predict"])
def test_a_trainer_may_prepare_each_batch(mode):
    class Prepares(TinyTrainer):
        def prepare_batch(self, batch, mode):
            return batch | {"mode": mode}

        def _error(self, batch):
            seen.append(batch["mode"])
            return super()._error(batch)

        def predict_step(self, batch, batch_idx, dataloader_idx):
            self._error(batch)

    seen = []
    trainer = make_trainer(cls=Prepares, max_epochs=1)
    if mode == "train":
        trainer.train(make_loader())
    else:
        getattr(trainer, mode)([make_loader()])
    assert seen == [mode] * 5


def optimizer_that(method, error):
    """Returns a class of optimisers in which a method raises an error."""

    def raises(self, *arguments, **keywords):
        raise error

    return type("Mine", (torch.optim.SGD,), {method: raises})


ERRORS = [AssertionError("SAM needs a closure"), KeyError("lr"), TypeError("no state"), RuntimeError("bad")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    ("method", "message"),
    [("step", "[optimizer] Mine can't step: "), ("zero_grad", "[optimizer] Mine failed in `zero_grad`: ")],
)
def test_error_of_an_optimiser_names_its_section(method, message, error):
    trainer = make_trainer(optimizer=lambda weights: optimizer_that(method, error)(weights, lr=0.1), max_epochs=1)
    with pytest.raises(RunError) as caught:
        trainer.train(make_loader())
    assert caught.value.message == f"{message}{type(error).__name__}: {error}"
    assert any(note.startswith(f"raised in: {__file__}:") for note in caught.value.notes)


def test_error_of_a_hook_that_steps_the_optimiser_is_not_taken_for_one_of_the_optimiser():
    class Steps:
        @hookimpl
        def optimizer_step(self):
            raise KeyError("mine")

    with pytest.raises(HookError, match=r"hook plugin `steps` .*failed in `optimizer_step`: KeyError"):
        make_trainer(hooks={"steps": Steps()}, max_epochs=1).train(make_loader())


class NoMode(nn.Linear):
    def train(self, mode=True):
        if not mode:
            raise ValueError("there is no evaluation mode")
        return super().train(mode)


class LossWithoutMode(NoMode):
    def forward(self, estimate, target):
        return (estimate - target).square().mean()


def test_error_of_switching_the_mode_names_the_section():
    with pytest.raises(RunError, match=r"\[model\] NoMode failed in `train`: ValueError: there is no evaluation mode"):
        make_trainer(model=lambda: NoMode(4, 1), max_epochs=1).train(make_loader(), [make_loader()])
    loss = LossWithoutMode(1, 1)
    with pytest.raises(RunError, match=r"\[loss_function\] .* failed in `train`: ValueError: there is no eval"):
        make_trainer(loss=loss, max_epochs=1).train(make_loader(), [make_loader()])


class ChangesItsOutputInPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, x):
        y = self.linear(x).sigmoid()
        y += 1  # the backward pass of the sigmoid needs what it returned
        return y


class Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise KeyError("gradient")


class FailsInItsBackwardPass(ChangesItsOutputInPlace):
    def forward(self, x):
        return Backward.apply(self.linear(x))


def test_error_of_a_backward_pass_after_a_change_in_place_says_what_to_do():
    with pytest.raises(RunError) as caught:
        make_trainer(model=ChangesItsOutputInPlace, max_epochs=1).train(make_loader())
    error = caught.value
    assert error.message.startswith("the backward pass of `loss` failed: RuntimeError: one of the variables")
    assert "x = x + y" in error.remedy
    assert "returned by [model]: float32 [4, 1]" in error.notes
    assert any(note.startswith("samples: sample ") for note in error.notes)


def test_error_of_a_backward_pass_of_ones_own_is_named_with_its_line():
    with pytest.raises(RunError, match="the backward pass of `loss` failed: KeyError: 'gradient'") as caught:
        make_trainer(model=FailsInItsBackwardPass, max_epochs=1).train(make_loader())
    assert any(note.startswith(f"raised in: {__file__}:") for note in caught.value.notes)
    assert "in place" not in caught.value.remedy


def test_backward_pass_that_runs_out_of_memory_is_reported_as_such(monkeypatch):
    def full(*args, **options):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(torch.autograd, "backward", full)
    with pytest.raises(RunError, match=r"the GPU .*memory"):
        make_trainer(max_epochs=1).train(make_loader())
