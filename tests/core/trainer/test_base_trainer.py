import math

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau, StepLR

from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import CheckpointError, HookError, RunError
from audiozen_core.hooks.lifecycle import Lifecycle
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.components import Components
from audiozen_plugins.hooks.patience import Patience
from tests.tiny_training import TinyTrainer, make_loader, make_trainer, state_of, weights_of


class Recorder:
    """Records the optimiser steps and the logged metrics."""

    def __init__(self):
        self.steps = []
        self.logged = []

    @hookimpl
    def on_log(self, metrics, step, epoch):
        self.logged.append((epoch, step, dict(metrics)))

    @hookimpl
    def on_optimizer_step_end(self, step):
        self.steps.append(step)


def test_training_finds_the_linear_map():
    trainer = make_trainer(max_epochs=60, model=lambda: nn.Linear(4, 1))
    before = (weights_of(trainer)[:4] - 1).abs().max()
    trainer.train(make_loader(), [make_loader(shuffle=False)])
    assert before > 0.5
    assert (weights_of(trainer)[:4] - 1).abs().max() < 0.15
    assert trainer.progress.epoch == 60
    assert trainer.progress.step == 300


def test_two_runs_with_the_same_seed_end_with_equal_weights():
    first = make_trainer(max_epochs=3)
    first.train(make_loader(seed=1))
    second = make_trainer(max_epochs=3)
    second.train(make_loader(seed=1, num_workers=2))
    assert torch.equal(weights_of(first), weights_of(second))


def test_a_different_seed_gives_different_weights():
    first = make_trainer(max_epochs=3)
    first.train(make_loader(seed=1))
    second = make_trainer(max_epochs=3)
    second.train(make_loader(seed=2))
    assert not torch.equal(weights_of(first), weights_of(second))


def test_accumulated_batches_equal_one_large_batch_even_in_a_shorter_last_window():
    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=0.1)

    small = make_trainer(max_epochs=2, gradient_accumulation_steps=3, optimizer=sgd, model=lambda: nn.Linear(4, 1))
    large = make_trainer(max_epochs=2, optimizer=sgd, model=lambda: nn.Linear(4, 1))
    # 20 samples: windows of 12 and 8 samples, as batches of 4 and as batches of 12.
    small.train(make_loader(20, batch_size=4))
    large.train(make_loader(20, batch_size=12))
    assert small.progress.step == large.progress.step == 4
    assert torch.allclose(weights_of(small), weights_of(large), atol=1e-6)
    without = make_trainer(max_epochs=2, optimizer=sgd, model=lambda: nn.Linear(4, 1))
    without.train(make_loader(20, batch_size=4))
    assert not torch.allclose(weights_of(without), weights_of(large), atol=1e-4)


def test_max_steps_stops_within_an_epoch_and_still_validates():
    trainer = make_trainer(max_epochs=9, max_steps=7)
    trainer.train(make_loader(), [make_loader()])
    assert trainer.progress.step == 7
    assert trainer.progress.best_score is not None


def test_validation_runs_at_its_interval_and_after_the_last_epoch():
    recorder = Recorder()
    trainer = make_trainer(max_epochs=5, validation_interval=2, hooks={"recorder": recorder})
    trainer.train(make_loader(), [make_loader()])
    validated = [epoch for epoch, _, metrics in recorder.logged if "validate/score" in metrics]
    assert validated == [2, 4, 5]


def test_step_scalars_are_logged_at_the_log_interval():
    recorder = Recorder()
    make_trainer(max_epochs=2, log_interval=4, hooks={"recorder": recorder}).train(make_loader())
    assert [step for _, step, metrics in recorder.logged if "step/loss" in metrics] == [4, 8]
    assert recorder.steps == list(range(1, 11))


@pytest.mark.parametrize(("save_max_score", "scores", "best"), [(True, [1, 3, 2], 2), (False, [3, 1, 2], 2)])
def test_best_epoch_has_the_highest_or_lowest_score_as_configured(save_max_score, scores, best):
    class Scripted(TinyTrainer):
        def validation_epoch_end(self, outputs):
            return scores[self.progress.epoch - 1]

    trainer = make_trainer(cls=Scripted, max_epochs=3, save_max_score=save_max_score)
    trainer.train(make_loader(), [make_loader()])
    assert trainer.progress.best_epoch == best


def test_nan_score_is_never_the_best():
    class Scripted(TinyTrainer):
        def validation_epoch_end(self, outputs):
            return float("nan") if self.progress.epoch == 2 else self.progress.epoch

    trainer = make_trainer(cls=Scripted, max_epochs=2)
    trainer.train(make_loader(), [make_loader()])
    assert trainer.progress.best_epoch == 1


@pytest.mark.parametrize(
    ("scores", "interval", "epochs"),
    [
        ([math.nan] * 9, 1, 3),
        ([math.nan] * 9, 2, 6),
        ([math.inf] * 9, 1, 3),
        ([math.nan, 1.0, math.nan, math.nan, 2.0], 1, 4),
        ([1.0, 0.0, 0.0], 1, 3),
        ([math.nan, math.nan], 9, 9),
    ],
)
def test_patience_counts_from_the_first_validation_until_a_score_is_finite(scores, interval, epochs):
    class Scripted(TinyTrainer):
        def validation_epoch_end(self, outputs):
            return scores[min(self.progress.epoch, len(scores)) - 1]

    hooks = {"patience": Patience()}
    trainer = make_trainer(cls=Scripted, max_epochs=9, patience=2, validation_interval=interval, hooks=hooks)
    trainer.train(make_loader(), [make_loader()])
    assert trainer.progress.epoch == epochs
    again = make_trainer(cls=Scripted)
    again.load_checkpoint(state_of(trainer))
    assert again.progress == trainer.progress


def test_scheduler_steps_once_per_epoch_or_once_per_optimiser_step():
    def halve(optimizer):
        return StepLR(optimizer, step_size=1, gamma=0.5)

    by_epoch = make_trainer(max_epochs=2, scheduler=halve)
    by_epoch.train(make_loader())
    assert by_epoch.optimizer.param_groups[0]["lr"] == pytest.approx(0.05 * 0.5**2)
    by_step = make_trainer(max_epochs=2, scheduler=halve, interval="step", gradient_accumulation_steps=5)
    by_step.train(make_loader())
    assert by_step.progress.step == 2
    assert by_step.optimizer.param_groups[0]["lr"] == pytest.approx(0.05 * 0.5**2)


def test_plateau_scheduler_receives_the_score():
    class Scripted(TinyTrainer):
        def validation_epoch_end(self, outputs):
            return {1: 5.0, 2: 6.0, 3: 1.0, 4: 1.0}[self.progress.epoch]

    trainer = make_trainer(
        cls=Scripted, max_epochs=4, scheduler=lambda optimizer: ReduceLROnPlateau(optimizer, mode="max", patience=1)
    )
    trainer.train(make_loader(), [make_loader()])
    assert trainer.lr_scheduler.best == 6.0
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.005)


def test_plateau_scheduler_with_a_wrong_mode_or_interval_is_rejected():
    with pytest.raises(RunError, match=r'`mode` of ReduceLROnPlateau is "min".*a higher score is better'):
        make_trainer(scheduler=ReduceLROnPlateau)
    with pytest.raises(RunError, match="steps after each validation"):
        make_trainer(scheduler=lambda optimizer: ReduceLROnPlateau(optimizer, mode="max"), interval="step")


def test_scheduler_whose_state_can_not_be_saved_is_found_before_the_training():
    with pytest.raises(RunError, match=r"\[lr_scheduler\] LambdaLR can't return its state.*AttributeError") as error:
        make_trainer(scheduler=lambda optimizer: LambdaLR(optimizer, math.sqrt))
    assert "defined with `def`" in error.value.remedy


def test_error_for_a_nan_loss_names_the_step_the_batch_and_the_samples():
    class Breaks(TinyTrainer):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)["loss"]
            return loss * float("nan") if self.progress.step == 6 else loss

    trainer = make_trainer(cls=Breaks, max_epochs=3)
    with pytest.raises(RunError, match=r"`loss` is nan at step 7 \(epoch 2, batch 1; samples: sample \d+, "):
        trainer.train(make_loader())
    assert weights_of(trainer).isfinite().all()


def test_weights_that_are_not_finite_stop_the_run_before_the_checkpoint():
    class Poisons(TinyTrainer):
        def training_epoch_end(self, outputs):
            with torch.no_grad():
                next(self.model.parameters()).fill_(float("inf"))
            return super().training_epoch_end(outputs)

    saved = []

    class Saves:
        @hookimpl
        def on_epoch_end(self, trainer, epoch):
            saved.append((epoch, state_of(trainer)))

    with pytest.raises(
        RunError, match=r"the weight `0.weight` of \[model\] is not finite at step 5 \(epoch 1, batch 4"
    ):
        make_trainer(cls=Poisons, hooks={"saves": Saves()}).train(make_loader())
    assert saved == []


def test_each_of_several_losses_trains_only_the_network_with_its_suffix():
    class Two(BaseTrainer):
        def training_step(self, batch, batch_idx):
            made = self.models["g"](batch["x"])
            return {"loss_g": made.square().mean(), "loss_d": self.models["d"](made).mean()}

    torch.manual_seed(0)
    g, d = nn.Linear(4, 4), nn.Linear(4, 1)
    expected = torch.autograd.grad(g(torch.ones(1, 4)).square().mean(), g.weight)[0]
    optimizers = {name: torch.optim.SGD(net.parameters(), lr=1.0) for name, net in (("g", g), ("d", d))}
    before = g.weight.detach().clone(), d.weight.detach().clone()
    trainer = Two(Components({"g": g, "d": d}, optimizers=optimizers), max_epochs=1)
    trainer.train(BatchLoader([{"x": torch.ones(4)}], batch_size=1))
    assert torch.allclose(before[0] - g.weight, expected)
    assert not torch.equal(before[1], d.weight)


def test_a_step_without_a_loss_is_an_error():
    class Forgets(TinyTrainer):
        def training_step(self, batch, batch_idx):
            return {"los": self._error(batch)}

    with pytest.raises(RunError, match=r"returned no `loss`, but \['los'\]"):
        make_trainer(cls=Forgets).train(make_loader())


def test_a_validation_without_a_score_is_an_error():
    class Forgets(TinyTrainer):
        def validation_epoch_end(self, outputs):
            return {"sdr": 1.0}

    with pytest.raises(RunError, match=r"the validation has no scalar `score`; it has sdr"):
        make_trainer(cls=Forgets).train(make_loader(), [make_loader()])


@pytest.mark.parametrize("mode", ["train", "validate", "test", "predict"])
def test_error_for_a_mode_without_its_step_names_the_class_and_method(mode):
    trainer = BaseTrainer(Components({"": nn.Linear(4, 1)}))
    loader = make_loader()
    method = {"train": "training_step", "validate": "validation_step"}.get(mode, f"{mode}_step")
    with pytest.raises(RunError, match=f"BaseTrainer does not define `{method}`"):
        getattr(trainer, mode)(loader if mode == "train" else [loader])


@pytest.mark.parametrize("argument", ["max_epochs", "max_steps", "patience", "save_ckpt_interval", "log_interval"])
def test_the_error_names_an_argument_that_is_out_of_range(argument):
    with pytest.raises(RunError, match=f"`{argument}` is -1"):
        make_trainer(**{argument: -1})


def test_evaluation_changes_no_weights_and_returns_its_scalars():
    trainer = make_trainer()
    before = weights_of(trainer)
    score = trainer.validate([make_loader(shuffle=False)])
    metrics = trainer.test([make_loader(shuffle=False)])
    assert metrics["test/error"] == pytest.approx(-score)
    assert torch.equal(before, weights_of(trainer))
    assert trainer.progress.best_epoch == 0


def test_stft_of_the_trainer_can_be_inverted():
    trainer = make_trainer()
    wave = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    spectrogram = trainer.stft(wave)
    assert spectrogram.shape[:2] == (2, trainer.n_fft // 2 + 1)
    assert torch.allclose(trainer.istft(spectrogram, length=8000), wave, atol=1e-5)


def test_half_precision_waves_are_transformed_in_float32():
    spectrogram = make_trainer().stft(torch.randn(1, 8000).bfloat16())
    assert spectrogram.dtype == torch.complex64


class Interrupt(Exception):
    pass


def _stop_after(epochs):
    class Stops:
        @hookimpl
        def stop_reason(self, trainer):
            return "enough" if trainer.progress.epoch >= epochs else None

    return {"stops": Stops()}


SCHEDULERS = {
    "none": None,
    "step": lambda optimizer: StepLR(optimizer, 2, 0.5),
    "plateau": lambda optimizer: ReduceLROnPlateau(optimizer, mode="max", patience=0),
    "lambda": lambda optimizer: LambdaLR(optimizer, lambda epoch: 0.9**epoch),
}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_resumed_training_ends_like_an_uninterrupted_one(scheduler, epochs):
    def run(state=None, hooks=()):
        trainer = make_trainer(max_epochs=4, scheduler=SCHEDULERS[scheduler], hooks=hooks)
        if state:
            torch.rand(17)
            trainer.load_checkpoint(state)
        trainer.train(make_loader(), [make_loader(shuffle=False)])
        return trainer

    whole = run()
    stopped = run(hooks=_stop_after(epochs))
    resumed = run(state_of(stopped))
    assert torch.equal(weights_of(whole), weights_of(resumed))
    assert whole.progress == resumed.progress
    # Negative control: without the state of the generators, dropout differs and so do the weights.
    incomplete = state_of(stopped)
    incomplete["rng"] = make_trainer().state.state_dict()["rng"]
    assert not torch.equal(weights_of(whole), weights_of(run(incomplete)))


def test_error_for_an_unfitting_checkpoint_names_missing_and_unknown_states():
    trainer = make_trainer(scheduler=SCHEDULERS["step"])
    state = state_of(make_trainer())
    state["hook_ema"] = {}
    with pytest.raises(CheckpointError, match=r"no state for `lr_scheduler`; .* has nothing named `hook_ema`"):
        trainer.load_checkpoint(state)


def test_error_for_weights_of_another_shape_names_their_section():
    trainer = make_trainer(model=lambda: nn.Linear(4, 2))
    with pytest.raises(CheckpointError, match="the checkpoint's `model` does not fit") as error:
        trainer.load_checkpoint(state_of(make_trainer(model=lambda: nn.Linear(4, 1))))
    assert "`weight`: [1, 4] and [2, 4]" in error.value.notes[0]
    assert error.value.remedy.startswith("a size of the network has changed from 1 to 2; ")
    assert "[model]" in error.value.remedy


def test_an_exception_reaches_the_hooks_and_then_the_caller():
    seen = []

    class Watches:
        @hookimpl
        def on_exception(self, error):
            seen.append(error)

        @hookimpl
        def on_teardown(self):
            seen.append("teardown")

    class Breaks(TinyTrainer):
        def training_step(self, batch, batch_idx):
            raise Interrupt

    with pytest.raises(RunError) as caught:
        make_trainer(cls=Breaks, hooks={"watches": Watches()}).train(make_loader())
    assert seen == [caught.value, "teardown"]
    assert isinstance(caught.value.__cause__, Interrupt)


def test_hook_without_implementations_does_not_call_pluggy():
    lifecycle = Lifecycle()
    assert lifecycle.on_training_step_end.__module__ == "audiozen_core.hooks.lifecycle"


@pytest.mark.parametrize("size", [16, 24, 4])
def test_interrupted_epoch_cannot_resume_with_another_number_of_batches(size):
    trainer = make_trainer(max_steps=3)
    trainer.train(make_loader(20))
    state = state_of(trainer)
    state["progress"] |= {"epoch": 0, "batch": 3}  # as saved after the third step
    again = make_trainer(max_epochs=2)
    again.load_checkpoint(state)
    with pytest.raises(RunError, match=rf": epoch 1 had 5 batches .* and has {size // 4} now"):
        again.train(make_loader(size))
    again.load_checkpoint(state)
    again.train(make_loader(20))
    assert again.progress.step == 10


def test_a_pass_that_goes_on_is_not_called_an_epoch():
    trainer = make_trainer(max_epochs=1, steps_per_epoch=3)
    trainer.train(make_loader(20))
    again = make_trainer(max_epochs=2, steps_per_epoch=3)
    again.load_checkpoint(state_of(trainer))
    with pytest.raises(RunError, match=r": pass 1 over the training data had 5 batches .* and has 6 now") as caught:
        again.train(make_loader(24))
    assert "--mode finetune" in str(caught.value.remedy)


def test_checkpoint_stores_a_loss_function_only_if_it_has_state(tmp_path):
    class Normalised(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.ones(()))

        def forward(self, output, target):
            error = (output - target).square().mean()
            self.scale.lerp_(error.detach(), 0.5)
            return error / self.scale

    class Uses(TinyTrainer):
        def _error(self, batch):
            return self.loss_function(self.model(batch["x"]), batch["y"])

    def run(loss, state=None):
        trainer = make_trainer(tmp_path, cls=Uses, max_epochs=1, loss=loss)
        trainer.load_checkpoint(state) if state else trainer.train(make_loader())
        return trainer

    state = state_of(run(Normalised()))
    assert run(Normalised(), state).loss_function.scale == state["loss_function"]["scale"] != 1
    assert "loss_function" not in state_of(run(nn.MSELoss()))


def test_hook_that_fails_during_teardown_does_not_hide_the_first_error(capsys):
    class Wrong(TinyTrainer):
        def training_step(self, batch, batch_idx):
            raise ZeroDivisionError("the first")

    class FailsToClose:
        @hookimpl
        def on_exception(self):
            raise OSError("the second")

        @hookimpl
        def on_teardown(self):
            raise OSError("the third")

    with pytest.raises(RunError, match="ZeroDivisionError: the first"):
        make_trainer(cls=Wrong, hooks={"fails": FailsToClose()}).train(make_loader())
    log = capsys.readouterr().err
    assert log.count("a hook failed while the run was ending") == 2
    assert "the second" in log
    assert "the third" in log
    with pytest.raises(HookError, match="the third"):
        make_trainer(hooks={"fails": FailsToClose()}, max_epochs=1).train(make_loader())


@pytest.mark.parametrize(
    ("interval", "options", "wanted"),
    [
        ("step", {"max_epochs": 3}, 15),
        ("step", {"max_epochs": 3, "gradient_accumulation_steps": 2}, 9),
        ("step", {"max_epochs": 30, "max_steps": 20}, 20),
        ("epoch", {"max_epochs": 12}, 12),
    ],
)
def test_scheduler_that_ends_before_the_training_is_an_error_before_the_first_step(interval, options, wanted):
    def one_cycle(total):
        def scheduler(optimizer):
            return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=total)

        return make_trainer(scheduler=scheduler, interval=interval, **options)

    trainer = one_cycle(wanted - 1)
    with pytest.raises(RunError, match=f"has {wanted - 1} steps, but the training has {wanted} {interval}s"):
        trainer.train(make_loader())
    assert trainer.progress.step == 0
    one_cycle(wanted).train(make_loader())


def test_scheduler_that_runs_out_of_steps_in_a_stream_is_an_error():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return ({"x": torch.ones(4), "y": torch.ones(1)} for _ in range(6))

    trainer = make_trainer(
        scheduler=lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=4),
        interval="step",
    )
    with pytest.raises(RunError, match="OneCycleLR can't step"):
        trainer.train(BatchLoader(Stream(), batch_size=1))
