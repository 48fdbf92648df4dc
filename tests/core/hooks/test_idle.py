"""A plugin says which of its hooks do nothing for now, and these are not called."""

import pytest

from audiozen_core.errors import HookError
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.hooks.marker import hookimpl
from audiozen_plugins.hooks.amp import Amp
from audiozen_plugins.hooks.nonfinite import NonFinite
from audiozen_plugins.hooks.tensorboard import TensorBoard
from tests.tiny_training import make_loader, make_trainer

STEPS = 5


class Counts:
    """Counts its calls, and is idle in the first epoch."""

    def __init__(self):
        self.seen = []

    def idle_hooks(self, trainer):
        return ["on_training_step_end"] if trainer.progress.epoch == 0 else []

    @hookimpl.on_training_step_end
    def on_training_step_end(self, trainer):
        self.seen.append(trainer.progress.epoch + 1)

    @hookimpl.on_optimizer_step_end
    def on_optimizer_step_end(self):
        self.seen.append("step")


class Never(Counts):
    def idle_hooks(self, trainer):
        return ()


def test_an_idle_hook_is_not_called_until_its_plugin_says_otherwise():
    counts, never = Counts(), Never()
    make_trainer(hooks={"counts": counts, "never": never}, max_epochs=2).train(make_loader())
    assert counts.seen == ["step"] * STEPS + ["step", 2] * STEPS
    assert never.seen == ["step", 1] * STEPS + ["step", 2] * STEPS  # negative control


def test_an_idle_hook_is_left_out_even_if_its_call_was_replaced_for_a_time():
    counts = Counts()
    lifecycle = Lifecycle([Plugin("counts", counts)])
    before = lifecycle.on_training_step_end
    lifecycle.on_training_step_end = lambda **_: []
    trainer = make_trainer()
    lifecycle.leave_out_idle(trainer)
    lifecycle.on_training_step_end = before
    for epoch in (1, 0):  # the hook is idle in epoch 0
        trainer.progress.epoch = epoch
        lifecycle.leave_out_idle(trainer)
    lifecycle.on_training_step_end(trainer=trainer, batch=None, batch_idx=0, outputs=None, losses={})
    assert counts.seen == []


class Misspells(Counts):
    def idle_hooks(self, trainer):
        return ["on_step_end"]


class Fails(Counts):
    def idle_hooks(self, trainer):
        raise KeyError("level")


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (Misspells(), "hook plugin `wrong`.* names `on_step_end` in `idle_hooks`, which is none of its hooks"),
        (Fails(), "hook plugin `wrong`.* failed in `idle_hooks`: KeyError"),
    ],
)
def test_a_mistake_in_idle_hooks_names_the_plugin(plugin, message):
    lifecycle = Lifecycle([Plugin("wrong", plugin)])
    with pytest.raises(HookError, match=message):
        lifecycle.leave_out_idle(make_trainer())


SCALING = {"backward", "on_gradients_ready", "optimizer_step", "on_optimizer_step_end"}


def test_amp_is_idle_in_a_step_without_use_amp():
    trainer = make_trainer()
    assert set(Amp().idle_hooks(trainer)) == {"autocast", *SCALING}
    trainer.use_amp = True
    assert set(Amp().idle_hooks(trainer)) == SCALING  # bfloat16 needs no scaler
    assert set(Amp(dtype="float16").idle_hooks(trainer)) == set()


@pytest.mark.parametrize(
    ("policy", "idle"),
    [
        ("stop", {"skip_batch", "on_training_step_start"}),
        ("skip", {"skip_batch"}),
        ("rollback", {"on_training_step_start"}),
    ],
)
def test_the_policies_for_a_nan_are_idle_unless_they_are_needed(policy, idle):
    trainer, plugin = make_trainer(on_nonfinite=policy), NonFinite()
    assert set(plugin.idle_hooks(trainer)) == idle
    plugin.load_state_dict({"count": 1, "left_out": [[1, 2]]})  # of the run before a resume
    assert set(plugin.idle_hooks(trainer)) == idle - {"skip_batch"}


def test_tensorboard_is_idle_without_histograms():
    assert set(TensorBoard(required=False).idle_hooks(make_trainer())) == {"on_gradients_ready"}
    assert set(TensorBoard(required=False, histogram_epochs=2).idle_hooks(make_trainer())) == set()


class FailsToClose(Counts):
    @hookimpl.on_teardown
    def on_teardown(self):
        raise OSError("the disk is gone")


def test_an_error_at_the_end_is_still_raised_after_hooks_have_been_left_out():
    with pytest.raises(HookError, match="the disk is gone"):
        make_trainer(hooks={"fails": FailsToClose()}, max_epochs=2).train(make_loader())
