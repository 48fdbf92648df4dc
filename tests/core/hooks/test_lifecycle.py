"""Which hooks a run calls, in which order, and what they can do."""

import re
from pathlib import Path

import pytest

from audiozen_core.errors import AudioZenError, RunError
from audiozen_core.hooks.checks import HOOK_NAMES
from audiozen_core.hooks.ending import RunEnding
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.testing.recorder import HookRecorder
from audiozen_core.testing.tiny import TinyExperiment

TESTS = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return TinyExperiment(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def trained(tiny):
    # With a learning rate of 0, the second epoch can't be better than the first.
    return tiny.set("optimizer", lr=0.0).set("trainer", log_interval=2).run("train")


SAVE = ["on_state_collect", "on_checkpoint_save", "on_state_collected"]


def step(batch_idx, number):
    return [
        f"skip_batch batch_idx={batch_idx}",
        f"on_training_step_start batch_idx={batch_idx}",
        "autocast",
        "backward last=True",
        "on_gradients_ready",
        "optimizer_step",
        f"on_optimizer_step_end step={number}",
        f"on_training_step_end batch_idx={batch_idx}",
        "stop_within_epoch_reason",
    ]


def recorded(lines, place):
    """Returns the calls of a step whose scalars are recorded. Only one record has both them and the step's times."""
    before, end, after = lines[:-3], lines[-3], lines[-2:]
    return [*before, f"step_scalars {place.split()[0]}", end, f"on_log mode=train {place}", *after]


def evaluation(mode, batches):
    steps = [
        line
        for batch_idx in range(batches)
        for line in ("autocast", f"on_evaluation_step_end mode={mode} batch_idx={batch_idx} dataloader_idx=0")
    ]
    added = [f"evaluation_scalars mode={mode}"] if mode != "predict" else []
    return [f"on_evaluation_start mode={mode} num_batches={batches}", *steps, *added]


def test_two_epochs_call_the_hooks_in_order(trained):
    built = ["model", "loss_function", "optimizer", "trainer", "dataset", "dataset.dataloader"]
    built += ["validate_dataset", "validate_dataset.dataloader"]
    expected = [
        *(f"on_component_built section={section}" for section in built),
        "on_setup",
        "on_run_start mode=train",
        "stop_reason",
        # The first epoch has two batches. A logging interval ends after the second batch.
        "on_epoch_start epoch=1",
        *step(0, 1),
        *recorded(step(1, 2), "step=2 epoch=1"),
        "epoch_scalars epoch=1",
        *evaluation("validate", 4),
        "on_best_found",
        "on_evaluation_end mode=validate",
        "on_log mode=train step=2 epoch=1",
        "on_validation_end epoch=1",
        "on_epoch_end epoch=1",
        "skip_checkpoint_reason epoch=1",
        *SAVE,
        "stop_reason",
        # The second epoch.
        "on_epoch_start epoch=2",
        *step(0, 3),
        *recorded(step(1, 4), "step=4 epoch=2"),
        "epoch_scalars epoch=2",
        *evaluation("validate", 4),
        "on_evaluation_end mode=validate",
        "on_log mode=train step=4 epoch=2",
        "on_validation_end epoch=2",
        "on_epoch_end epoch=2",
        "skip_checkpoint_reason epoch=2",
        *SAVE,
        # `max_epochs` is reached, so `stop_reason` is not called again.
        "on_run_end mode=train",
        "on_teardown",
    ]
    transcript = trained.hooks.transcript
    # Checkpoints are written in the background, so `on_checkpoint_saved` comes at any time after `on_checkpoint_save`.
    saved = [place for place, line in enumerate(transcript) if line.startswith("on_checkpoint_saved")]
    assert [transcript[place] for place in saved] == [f"on_checkpoint_saved is_best={best}" for best in (True, False)]
    started = [place for place, line in enumerate(transcript) if line == "on_checkpoint_save"]
    assert all(before < after for before, after in zip(started, saved, strict=True))
    assert [line for line in transcript if not line.startswith("on_checkpoint_saved")] == expected


def test_evaluation_and_best_hooks_receive_the_validation_score(trained):
    scores = [call["score"] for call in trained.hooks.calls_of("on_evaluation_end")]
    assert scores == trained.metrics("validate/score")
    assert [call["score"] for call in trained.hooks.calls_of("on_best_found")] == scores[:1]


def test_test_and_predict_modes_call_the_hooks_in_order(trained, tiny):
    lines = tiny.run("test", "predict").hooks.transcript
    # Each mode has parts of its own.
    assert lines.count("on_component_built section=model") == 2
    lines = [line for line in lines if not line.startswith("on_component_built")]
    assert lines == [
        "on_setup",
        "on_checkpoint_load",
        "on_run_start mode=test",
        *evaluation("test", 4),
        "on_evaluation_end mode=test",
        # The test loads the best checkpoint. The step and the epoch come from it.
        "on_log mode=test step=2 epoch=1",
        "on_run_end mode=test",
        "on_teardown",
        "on_setup",
        "on_checkpoint_load",
        "on_run_start mode=predict",
        *evaluation("predict", 4),
        "on_evaluation_end mode=predict",
        "on_run_end mode=predict",
        "on_teardown",
    ]


def test_resumed_run_calls_on_checkpoint_load_before_on_run_start(trained, tiny):
    tiny.set("trainer", max_epochs=3)
    names = tiny.run("train", resume=True).hooks.names
    assert names[names.index("on_setup") :][:3] == ["on_setup", "on_checkpoint_load", "on_run_start"]


MINE = """
from audiozen_core.hooks.marker import hookimpl


class Adds:
    @hookimpl
    def on_checkpoint_save(self, extra):
        extra["mine"] = {"seen": 3}

    @hookimpl
    def on_checkpoint_load(self, extra):
        raise RuntimeError(f"got {extra['mine']['seen']}")


class Vetoes:
    @hookimpl
    def skip_checkpoint_reason(self, epoch):
        return "the first epoch" if epoch == 1 else None


class Breaks:
    @hookimpl
    def on_gradients_ready(self, trainer):
        raise OSError("no gradients today")


class Counts:
    def __init__(self):
        self.epochs = 0

    @hookimpl
    def on_epoch_end(self):
        self.epochs += 1

    @hookimpl
    def on_log(self, trainer, metrics):
        trainer.log.info(f"{self.epochs} epochs so far")

    def state_dict(self):
        return {"epochs": self.epochs}

    def load_state_dict(self, state):
        self.epochs = state["epochs"]


class Wraps:
    @hookimpl
    def on_component_built(self, section, component):
        return Half(component) if section == "loss_function" else None


class Requests:
    @hookimpl
    def on_training_step_end(self, trainer, batch_idx):
        if trainer.progress.step == 1:
            trainer.hooks.on_checkpoint_request(trainer=trainer, reason="to be sure")


class SpoilsOnce:
    def __init__(self):
        self.calls = 0

    @hookimpl
    def on_component_built(self, section, component):
        return self.spoiling(component) if section == "loss_function" else None

    def spoiling(self, loss):
        def spoilt(estimate, target):
            self.calls += 1
            return loss(estimate, target) * (float("nan") if self.calls == 2 else 1)

        return spoilt


class Half:
    def __init__(self, loss):
        self.loss = loss

    def __call__(self, estimate, target):
        return 0 * self.loss(estimate, target) + 7
"""


@pytest.fixture
def mine(tiny_experiment):
    (tiny_experiment.folder / "mine.py").write_text(MINE)
    return tiny_experiment.set("trainer", max_epochs=1)


def test_hook_receives_the_data_that_it_added_to_a_checkpoint(mine):
    mine.add_hook("mine.Adds").run("train")
    mine.set("trainer", max_epochs=2)
    with pytest.raises(AudioZenError, match=r"`mine.Adds` .* failed in `on_checkpoint_load`: RuntimeError: got 3"):
        mine.run("train", resume=True)


def test_a_hook_can_veto_a_checkpoint(mine):
    outcome = mine.add_hook("mine.Vetoes").set("trainer", max_epochs=2).run("train")
    assert outcome.checkpoints == ["epoch_0002"]
    assert outcome.hooks.names.count("on_checkpoint_saved") == 1


def test_error_calls_on_exception_and_on_teardown_but_not_on_run_end(mine, hook_recorder):
    with pytest.raises(AudioZenError, match=r"`mine.Breaks` .* failed in `on_gradients_ready`: OSError: no gradients"):
        mine.add_hook("mine.Breaks").run("train", hooks=hook_recorder)
    assert hook_recorder.names[-2:] == ["on_exception", "on_teardown"]
    assert "on_run_end" not in hook_recorder.names
    assert isinstance(hook_recorder.calls_of("on_exception")[0]["error"], AudioZenError)


class Ends(HookRecorder):
    """Keeps how a run has ended, which `on_run_end` and `on_teardown` are told."""

    def __init__(self, stop=None, fail=None):
        super().__init__()
        self.stop, self.fail, self.endings, self.modes = stop, fail, [], []

    @hookimpl.stop_reason
    def stop_reason(self):
        return self.stop

    @hookimpl.on_evaluation_step_end
    def on_evaluation_step_end(self):
        if self.fail:
            raise self.fail

    @hookimpl.on_log
    def on_log(self, mode, metrics):
        self.modes += [(mode, next(iter(metrics)).partition("/")[0])]

    @hookimpl.on_run_end
    def on_run_end(self, ending):
        self.endings.append(("end", ending))

    @hookimpl.on_teardown
    def on_teardown(self, ending):
        self.endings.append(("teardown", ending))


def test_end_and_teardown_receive_the_ending_of_the_run(tmp_path):
    hooks, tiny = Ends(), TinyExperiment(tmp_path)
    tiny.set("trainer", max_epochs=1).run("train", "test", hooks=hooks)
    trained, tested = RunEnding("finished", "max_epochs = 1 is reached"), RunEnding()
    assert hooks.endings == [("end", trained), ("teardown", trained), ("end", tested), ("teardown", tested)]
    assert hooks.modes == [("train", "train"), ("test", "test")]
    hooks = Ends(stop="enough")
    tiny.set("trainer", max_epochs=3).run("train", resume=True, hooks=hooks)
    stopped = RunEnding("stopped", "enough")
    assert hooks.endings == [("end", stopped), ("teardown", stopped)]


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (RunError("broken", remedy="mend it"), "failed", "RunError: broken"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
        (SystemError(), "failed", "HookError: "),
    ],
)
def test_evaluation_that_fails_is_abandoned_once_and_teardown_gets_the_error(tmp_path, error, kind, reason):
    hooks, tiny = Ends(fail=error), TinyExperiment(tmp_path)
    with pytest.raises((AudioZenError, KeyboardInterrupt)) as raised:
        tiny.set("trainer", max_epochs=1).run("train", hooks=hooks)
    assert hooks.names[-2:] == ["on_evaluation_abandoned", "on_exception"]
    assert hooks.names.count("on_evaluation_abandoned") == 1
    assert "on_evaluation_end" not in hooks.names
    [(when, ending)] = hooks.endings
    assert (when, ending.kind) == ("teardown", kind)
    assert ending.reason.startswith(reason)
    assert "mend it" not in ending.reason
    assert ending.error is raised.value or ending.error is raised.value.__cause__


def test_a_resumed_run_restores_the_state_of_a_hook(mine, caplog):
    mine.add_hook("mine.Counts").run("train")
    outcome = mine.set("trainer", max_epochs=3).run("train", resume=True)
    assert "2 epochs so far" in (outcome.folder / "tiny.log").read_text()


def test_a_component_can_be_wrapped_when_it_is_built(mine):
    assert mine.add_hook("mine.Wraps").run("train").metrics("train/loss") == [7.0]


def test_a_hook_can_request_a_checkpoint_at_any_step(mine):
    outcome = mine.add_hook("mine.Requests").run("train")
    assert "epoch_0001_step_0000001" in outcome.checkpoints
    names = outcome.hooks.names
    start = names.index("on_checkpoint_request")
    assert names[start:][:6] == ["on_checkpoint_request", "skip_checkpoint_reason", *SAVE, "on_checkpoint_saved"]


def test_rollback_calls_its_hooks_in_order(mine):
    hooks = mine.add_hook("mine.SpoilsOnce").set("trainer", on_nonfinite="rollback", max_nonfinite=1).run("train").hooks
    # Checkpoints are written in the background, so `on_checkpoint_saved` can come at any time.
    names = [name for name in hooks.names if name != "on_checkpoint_saved"]
    assert names[names.index("rollback") :][:3] == ["rollback", "on_checkpoint_load", "on_rollback"]
    assert hooks.names[-1] == "on_teardown"
    assert "on_evaluation_abandoned" not in hooks.names


def test_every_hook_is_named_in_a_test():
    text = "\n".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py"))
    for name in HOOK_NAMES:
        assert re.search(rf"\b{name}\b", text), name
