"""What authors of hooks need: see an evaluation, add scalars, stop within an epoch, change what a checkpoint holds."""

from __future__ import annotations

import copy
import json
import weakref
from contextlib import nullcontext

import pytest
import torch

from audiozen_core.checkpoint.errors import CheckpointWriteError
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.errors import HookError, RunError
from audiozen_core.hooks.marker import hookimpl
from audiozen_plugins.hooks.checkpoint import Checkpoint
from audiozen_plugins.hooks.metrics_jsonl import MetricsJsonl
from audiozen_plugins.hooks.patience import Patience
from tests.core.checkpoint.exactness import difference
from tests.tiny_training import TinyTrainer, make_loader, make_trainer, state_of, weights_of

# ----------------------------------------------------------------------------------------------- an evaluation


class Shows(TinyTrainer):
    """Shows the output of the network for each sample."""

    def validation_step(self, batch, batch_idx, dataloader_idx):
        for output in self.model(batch["x"]):
            self.show(output=output)
        return self._error(batch)

    test_step = validation_step


class Watches:
    def __init__(self):
        self.seen = []
        self.alive = []

    @hookimpl
    def on_evaluation_step_end(self, mode, batch, batch_idx, dataloader_idx, outputs, signals):
        self.seen.append((mode, batch_idx, dataloader_idx, batch["x"].clone(), float(outputs), len(signals)))
        self.alive += [weakref.ref(shown["output"]) for shown in signals]
        assert not any(shown["output"].requires_grad for shown in signals)


def test_a_hook_sees_batch_outputs_and_signals_of_an_evaluation_and_nothing_keeps_them():
    hook = Watches()
    trainer = make_trainer(cls=Shows, hooks={"watches": hook})
    loaders = [make_loader(6, shuffle=False), make_loader(3, shuffle=False)]
    trainer.validate(loaders)
    assert [(*where, count) for *where, _, _, count in hook.seen] == [
        ("validate", 0, 0, 4), ("validate", 1, 0, 2), ("validate", 0, 1, 3),
    ]  # fmt: skip
    batches = [batch for loader in loaders for batch in loader.epoch(0)]
    for (*_, x, error, _), batch in zip(hook.seen, batches, strict=True):
        assert torch.equal(x, batch["x"])
        assert error == float(trainer._error(batch).detach())
    assert [reference() for reference in hook.alive] == [None] * 9


def test_what_a_hook_changes_in_the_outputs_changes_no_result():
    class Lists(Shows):
        def validation_step(self, batch, batch_idx, dataloader_idx):
            return [super().validation_step(batch, batch_idx, dataloader_idx)]

        def validation_epoch_end(self, outputs):
            return super().validation_epoch_end([[entries[0] for entries in loader] for loader in outputs])

    class Spoils:
        @hookimpl
        def on_evaluation_step_end(self, outputs):
            outputs[0].zero_()
            outputs.clear()

    plain, spoilt = (make_trainer(cls=Lists, hooks=hooks) for hooks in ({}, {"spoils": Spoils()}))
    score = plain.validate([make_loader(6, shuffle=False)])
    assert spoilt.validate([make_loader(6, shuffle=False)]) == score != 0


def test_signals_that_no_hook_asks_for_are_not_kept_at_all():
    trainer = make_trainer(cls=Shows, hooks={"patience": Patience()})
    trainer.show(output=torch.ones(3))
    assert trainer._shown == []


# ----------------------------------------------------------------------------------------------- scalars


class Adds:
    """Adds a number for each epoch and each evaluation. The validation's has its maximum at the second epoch."""

    def __init__(self, name="mine"):
        self.name = name

    @hookimpl
    def epoch_scalars(self, epoch):
        return {self.name: 10 * epoch}

    @hookimpl
    def evaluation_scalars(self, trainer, mode):
        return {self.name: torch.tensor(-abs(trainer.progress.epoch - 2.0))} if mode == "validate" else None


def records(folder, name):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["epoch"], line[name]) for line in lines if name in line]


def test_added_scalars_are_recorded_and_can_be_the_score(tmp_path):
    hooks = {"adds": Adds(), "metrics": MetricsJsonl(), "checkpoint": Checkpoint(), "patience": Patience()}
    trainer = make_trainer(tmp_path, hooks=hooks, max_epochs=9, monitor="mine", patience=2)
    trainer.train(make_loader(), [make_loader()])
    assert records(tmp_path, "train/mine") == [(1, 10), (2, 20), (3, 30), (4, 40)]
    assert (
        records(tmp_path, "validate/mine") == records(tmp_path, "validate/score") == [(1, -1), (2, 0), (3, -1), (4, -2)]
    )
    store = CheckpointStore(tmp_path / "checkpoints")
    assert (store.load("best").epoch, store.load("latest").epoch) == (2, 4)


def test_the_score_of_the_trainer_counts_unless_another_scalar_is_monitored(tmp_path):
    """The negative control."""
    hooks = {"adds": Adds(), "metrics": MetricsJsonl()}
    trainer = make_trainer(tmp_path, hooks=hooks, max_epochs=3)
    trainer.train(make_loader(), [make_loader()])
    scores = [score for _, score in records(tmp_path, "validate/score")]
    assert scores != [-1, 0, -1]
    assert trainer.progress.best_score == max(scores)


@pytest.mark.parametrize("monitor", ["min", "validate/mine", "validate/min"])
def test_a_misspelt_monitor_or_one_with_the_prefix_of_records_gets_a_suggestion(monitor):
    trainer = make_trainer(hooks={"adds": Adds()}, monitor=monitor)
    with pytest.raises(RunError) as error:
        trainer.validate([make_loader()])
    assert error.value.remedy == 'write `monitor = "mine"` in [trainer.args]'


def test_a_monitored_scalar_that_does_not_exist_is_an_error_with_those_that_do():
    trainer = make_trainer(hooks={"adds": Adds()}, monitor="stoi")
    with pytest.raises(RunError, match=r"the validation has no scalar `stoi`; it has mine, score"):
        trainer.validate([make_loader()])


@pytest.mark.parametrize(("first", "second", "owner"), [("x", "x", "hook plugin `a`"), ("y", "loss", "the trainer")])
def test_a_scalar_with_a_name_that_is_taken_is_an_error(first, second, owner):
    trainer = make_trainer(hooks={"a": Adds(first), "b": Adds(second)}, max_epochs=1)
    with pytest.raises(
        HookError, match=rf"hook plugin `b` .* adds the scalar `{second}` in `epoch_scalars`, but {owner}"
    ):
        trainer.train(make_loader())


# ----------------------------------------------------------------------------------------------- stopping


class Stops:
    def __init__(self, step):
        self.step = step

    @hookimpl
    def stop_within_epoch_reason(self, trainer):
        return "enough" if trainer.progress.step == self.step else None

    @hookimpl
    def skip_batch(self, batch_idx):
        return batch_idx == 2 or None


@pytest.mark.parametrize("window", [1, 2])
@pytest.mark.parametrize("stop", [3, 5, 8])  # the fifth step of a window of one is the last of its epoch
def test_a_run_that_a_hook_stops_within_an_epoch_is_resumed_to_the_last_bit(tmp_path, stop, window):
    def train(folder, *steps):
        for step in (*steps, None):
            hooks = {"stops": Stops(step), "checkpoint": Checkpoint(), "metrics": MetricsJsonl()}
            trainer = make_trainer(
                folder, hooks=hooks, max_epochs=4, log_interval=1, gradient_accumulation_steps=window
            )
            if (folder / "checkpoints").exists():
                trainer.load_checkpoint(CheckpointStore(folder / "checkpoints").load("latest").state)
            trainer.train(make_loader(), [make_loader()])
            if step is not None:
                assert trainer.progress.step == step
        return state_of(trainer), records(folder, "step/loss"), records(folder, "validate/score")

    whole, halves = train(tmp_path / "whole"), train(tmp_path / "halves", stop)
    assert difference(whole[0], halves[0]) is None
    assert whole[1:] == halves[1:]
    assert len(whole[2]) == 4


# ----------------------------------------------------------------------------------------------- checkpoints


class Average:
    """A moving average of the weights, which replaces the weights in the checkpoints."""

    def __init__(self):
        self.average = None
        self.raw = None

    @hookimpl
    def on_setup(self, trainer):
        self.average = [weight.detach().clone() for weight in trainer.model.parameters()]

    @hookimpl
    def on_optimizer_step_end(self, trainer):
        for mean, weight in zip(self.average, trainer.model.parameters(), strict=True):
            mean.lerp_(weight.detach(), 0.1)

    def _swap(self, trainer):
        for mean, weight in zip(self.average, trainer.model.parameters(), strict=True):
            kept = weight.detach().clone()
            weight.data.copy_(mean)
            mean.copy_(kept)

    @hookimpl
    def on_state_collect(self, trainer):
        self._swap(trainer)

    @hookimpl
    def on_state_collected(self, trainer):
        self._swap(trainer)


@pytest.mark.parametrize("background", [True, False])
def test_a_hook_changes_what_a_checkpoint_holds_but_not_the_training(tmp_path, background):
    average = Average()
    trainer = make_trainer(
        tmp_path, hooks={"average": average, "checkpoint": Checkpoint()}, max_epochs=2, save_ckpt_async=background
    )
    trainer.hooks.on_setup(trainer=trainer)
    trainer.train(make_loader())
    plain = make_trainer(max_epochs=2)
    plain.train(make_loader())
    assert torch.equal(weights_of(trainer), weights_of(plain))
    saved = CheckpointStore(tmp_path / "checkpoints").load("latest").state["model"]
    assert torch.equal(
        torch.cat([value.flatten() for value in saved.values()]), torch.cat([m.flatten() for m in average.average])
    )
    assert not torch.equal(saved["0.weight"], trainer.model[0].weight)


def test_the_change_is_undone_if_the_state_cannot_be_saved(tmp_path):
    class Fails:
        @hookimpl
        def on_checkpoint_save(self):
            raise ValueError("no")

    trainer = make_trainer(tmp_path, hooks={"average": Average(), "fails": Fails()})
    trainer.hooks.on_setup(trainer=trainer)
    trainer.hooks.on_optimizer_step_end(trainer=trainer, step=1)
    trainer.model[0].weight.data.add_(1)
    before = weights_of(trainer).clone()
    with pytest.raises(HookError, match="no"), trainer.checkpoint():
        pass
    assert torch.equal(weights_of(trainer), before)


class Keeps:
    def __init__(self, value):
        self.value = value
        self.loaded = None

    @hookimpl
    def on_checkpoint_save(self, extra):
        if self.value is not None:
            extra["config"] = self.value

    @hookimpl
    def on_checkpoint_load(self, extra):
        self.loaded = copy.deepcopy(dict(extra))


def test_each_hook_has_an_extra_of_its_own():
    def hooks():
        return {"a": Keeps(1), "b": Keeps({"x": 2}), "none": Keeps(None)}

    state = state_of(make_trainer(hooks=hooks()))
    again = hooks()
    make_trainer(hooks=again).load_checkpoint(state)
    assert {name: hook.loaded for name, hook in again.items()} == {
        "a": {"config": 1},
        "b": {"config": {"x": 2}},
        "none": {},
    }
    assert state["extra"]["config"] == ""


def test_the_state_of_a_hook_may_take_the_trainer():
    class Remembers:
        def __init__(self):
            self.found = None

        def state_dict(self, trainer):
            return {"step": trainer.progress.step}

        def load_state_dict(self, state, trainer):
            self.found = state["step"], trainer.max_epochs

    trainer = make_trainer(hooks={"remembers": Remembers()}, max_epochs=2)
    trainer.train(make_loader())
    again = Remembers()
    make_trainer(hooks={"remembers": again}, max_epochs=7).load_checkpoint(state_of(trainer))
    assert again.found == (10, 7)


def test_a_stop_within_an_epoch_saves_again_if_the_disk_was_full_or_ends_the_run(tmp_path, monkeypatch):
    class Full(CheckpointStore):
        fails = 1

        def save(self, *args, **kwargs):
            if Full.fails:
                Full.fails -= 1
                raise CheckpointWriteError("no space")
            return super().save(*args, **kwargs)

    monkeypatch.setattr("audiozen_plugins.hooks.checkpoint.CheckpointStore", Full)
    for fails in (1, 2):
        Full.fails, folder = fails, tmp_path / str(fails)
        trainer = make_trainer(folder, hooks={"stops": Stops(3), "checkpoint": Checkpoint()}, max_epochs=2)
        with pytest.raises(CheckpointWriteError) if fails == 2 else nullcontext():
            trainer.train(make_loader())
        names = [path.name for path in (folder / "checkpoints").glob("epoch_*")]
        assert names == ([] if fails == 2 else ["epoch_0001_step_0000003"])
