"""A training validates every so many steps or minutes, also within an epoch."""

import copy
import json

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.errors import RunError
from audiozen_core.hooks.marker import hookimpl
from audiozen_plugins.hooks.checkpoint import Checkpoint
from audiozen_plugins.hooks.ema import Ema
from audiozen_plugins.hooks.metrics_jsonl import MetricsJsonl
from audiozen_plugins.hooks.patience import Patience
from audiozen_plugins.hooks.progress import ProgressBar
from tests.core.checkpoint.exactness import difference
from tests.tiny_training import TinyTrainer, make_loader, make_trainer, state_of, weights_of


class Rising(TinyTrainer):
    """The score of a validation is the number of steps. Validations draw random numbers."""

    def validation_epoch_end(self, outputs):
        torch.rand(7)
        return float(self.progress.step)


class Falling(TinyTrainer):
    def validation_epoch_end(self, outputs):
        return -float(self.progress.step)


class Listener:
    """Notes what the hooks are told of validations and epochs."""

    def __init__(self):
        self.validations, self.epochs, self.logged = [], [], []

    @hookimpl
    def on_validation_end(self, trainer, epoch, metrics):
        assert all(name.startswith("validate/") for name in metrics)
        assert trainer.model.training == (trainer.progress.batch > 0)
        self.validations.append((trainer.progress.step, epoch))

    @hookimpl
    def on_epoch_end(self, epoch, metrics):
        self.epochs.append((epoch, "validate/score" in metrics))

    @hookimpl
    def on_log(self, metrics, step, epoch):
        if "validate/score" in metrics:
            self.logged.append((step, epoch, "train/loss" in metrics))


def train(folder=".", *, hooks=(), cls=Rising, state=None, loader=None, **args):
    """Trains epochs of five steps. Returns the trainer and what the hooks were told."""
    listener = Listener()
    args = {"max_epochs": 3, "log_interval": 1, "save_ckpt_async": False, "max_num_checkpoints": 99, **args}
    trainer = make_trainer(folder, hooks={"listener": listener, **dict(hooks)}, cls=cls, **args)
    if state is not None:
        trainer.load_checkpoint(state)
    trainer.train(loader or make_loader(), [make_loader(shuffle=False)])
    return trainer, listener


# ------------------------------------------------------------------------------- steps


def test_validations_are_at_multiples_of_the_steps_of_the_whole_run_and_at_the_end():
    trainer, seen = train(validation_interval_steps=4)
    assert seen.validations == [(4, 1), (8, 2), (12, 3), (15, 3)]
    assert seen.logged == [(4, 1, False), (8, 2, False), (12, 3, False), (15, 3, True)]
    assert seen.epochs == [(1, False), (2, False), (3, True)]
    assert (trainer.progress.validations, trainer.validation_interval) == (3, None)


def test_validation_that_is_due_at_the_end_of_an_epoch_is_that_of_the_epoch():
    _, seen = train(validation_interval_steps=5)
    assert seen.validations == [(5, 1), (10, 2), (15, 3)]
    assert seen.logged == [(5, 1, True), (10, 2, True), (15, 3, True)]


def test_steps_of_several_batches_are_validated_between_steps():
    _, seen = train(validation_interval_steps=1, gradient_accumulation_steps=2, max_epochs=1)
    # Five batches are steps of two, two and one batch.
    assert seen.validations == [(1, 1), (2, 1), (3, 1)]


def test_best_step_within_an_epoch_is_the_best_checkpoint(tmp_path):
    class Peak(TinyTrainer):
        def validation_epoch_end(self, outputs):
            return -abs(self.progress.step - 8.0)

    trainer, _ = train(tmp_path, cls=Peak, hooks={"checkpoint": Checkpoint()}, validation_interval_steps=4)
    store = CheckpointStore(tmp_path / "checkpoints")
    assert store.best.name == "epoch_0002_step_0000008"
    assert store.load("best").score == 0.0
    assert (trainer.progress.best_step, trainer.progress.best_epoch, trainer.progress.best_score) == (8, 2, 0.0)
    # Each validation within an epoch is saved, and so is each epoch.
    assert [info.path.name for info in store.list()] == [
        "epoch_0001_step_0000004",
        "epoch_0001",
        "epoch_0002_step_0000008",
        "epoch_0002",
        "epoch_0003_step_0000012",
        "epoch_0003",
    ]


def test_a_step_that_is_validated_and_saved_is_saved_once_after_its_validation(tmp_path):
    train(
        tmp_path,
        hooks={"checkpoint": Checkpoint()},
        validation_interval_steps=2,
        save_ckpt_interval_steps=2,
        save_ckpt_interval=9,
        max_epochs=2,
    )
    found = CheckpointStore(tmp_path / "checkpoints").list()
    names = [f"epoch_0001_step_000000{step}" for step in (2, 4)] + [f"epoch_0002_step_000000{step}" for step in (6, 8)]
    assert [info.path.name for info in found] == [*names, "epoch_0002"]
    assert [info.manifest.score for info in found] == [2.0, 4.0, 6.0, 8.0, 10.0]


def test_plateau_scheduler_steps_after_each_validation_and_another_one_after_each_epoch():
    def plateau(optimizer):
        return ReduceLROnPlateau(optimizer, mode="max", patience=0, factor=0.5)

    trainer, _ = train(cls=Falling, scheduler=plateau, validation_interval_steps=4)
    # The first score is the best. Validations 2 and 3 are worse. The one at the end of the training was not due.
    assert trainer.optimizer.param_groups[0]["lr"] == 0.05 * 0.5**2
    trainer, _ = train(
        cls=Falling, scheduler=lambda optimizer: StepLR(optimizer, 1, gamma=0.5), validation_interval_steps=4
    )
    assert trainer.optimizer.param_groups[0]["lr"] == 0.05 * 0.5**3


@pytest.mark.parametrize(("patience", "last"), [(1, 6), (2, 9), (9, 15)])
def test_patience_counts_validations_and_stops_within_an_epoch(tmp_path, patience, last):
    hooks = {"patience": Patience(), "checkpoint": Checkpoint()}
    trainer, _ = train(tmp_path, cls=Falling, hooks=hooks, validation_interval_steps=3, patience=patience)
    assert trainer.progress.step == last
    if last == 15:
        return
    assert trainer.ending.kind == "stopped"
    assert f"no better score in {patience} validations" in trainer.ending.reason
    assert "the best score is -3.0000, from step 3, epoch 1" in trainer.ending.reason
    # A resume with the same patience trains no further step. One with more continues within the epoch.
    state = CheckpointStore(tmp_path / "checkpoints").load().state
    args = {"cls": Falling, "validation_interval_steps": 3, "hooks": {"patience": Patience()}, "state": state}
    assert train(**args, patience=patience)[0].progress.step == last
    more, _ = train(**args)
    assert difference(state_of(more), state_of(train(cls=Falling, validation_interval_steps=3)[0])) is None


def test_training_does_not_depend_on_its_validations():
    runs = [
        train(**args)[0] for args in ({"validation_interval_steps": 2}, {"validation_interval": 3}, {"max_steps": 15})
    ]
    for run in runs[1:]:
        assert torch.equal(weights_of(runs[0]), weights_of(run))
    assert torch.equal(state_of(runs[0])["rng"]["torch"], state_of(runs[1])["rng"]["torch"])


def test_part_of_a_network_that_a_hook_has_switched_off_stays_so():
    class Freezes:
        @hookimpl
        def on_epoch_start(self, trainer):
            trainer.model[1].eval()

    trainer, _ = train(
        model=lambda: nn.Sequential(nn.Linear(4, 1), nn.BatchNorm1d(1), nn.Dropout(0.1)),
        hooks={"freezes": Freezes()},
        validation_interval_steps=2,
    )
    assert trainer.model[1].num_batches_tracked == 0


def test_average_of_the_weights_is_validated_and_training_goes_on_with_the_weights():
    class Watches(TinyTrainer):
        def validation_epoch_end(self, outputs):
            self.validated = weights_of(self)
            return 0.0

    trainer, _ = train(cls=Watches, hooks={"ema": Ema()}, validation_interval_steps=2, max_epochs=1)
    plain, _ = train(cls=Watches, validation_interval_steps=2, max_epochs=1)
    assert torch.equal(weights_of(trainer), weights_of(plain))
    assert not torch.equal(trainer.validated, plain.validated)


def test_without_validation_sets_nothing_is_due(tmp_path):
    trainer = make_trainer(
        tmp_path,
        hooks={"checkpoint": Checkpoint()},
        validation_interval_steps=2,
        save_ckpt_interval_steps=2,
        max_epochs=1,
    )
    trainer.train(make_loader())
    assert (trainer.validation_is_due, trainer.progress.validated_step) == (False, -1)
    assert len(CheckpointStore(tmp_path / "checkpoints").list()) == 3


def test_console_has_a_line_for_each_validation(capsys):
    train(hooks={"progress": ProgressBar(bars=False)}, validation_interval_steps=4, max_epochs=1)
    shown = capsys.readouterr().err
    assert "validated after step 4, in epoch 1" in shown
    assert "validate/score=4.0" in shown
    train(hooks={"progress": ProgressBar(bars=True)}, validation_interval_steps=4, max_epochs=1)


@pytest.mark.parametrize(
    "intervals",
    [
        {"validation_interval": 1, "validation_interval_steps": 2},
        {"validation_interval_steps": 2, "validation_interval_minutes": 1.0},
    ],
)
def test_several_intervals_are_refused(intervals):
    with pytest.raises(RunError, match="the validation has several intervals"):
        make_trainer(**intervals)


# ------------------------------------------------------------------------------- resume


class SavesBefore:
    """Keeps the state after each step, before the validation that may follow."""

    phase = "persist"

    def __init__(self):
        self.states = {}

    @hookimpl
    def on_training_step_end(self, trainer):
        if trainer.between_steps:
            self.states[trainer.progress.step] = state_of(trainer)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_run_resumed_before_a_validation_makes_it_and_ends_the_same(accumulation):
    args = {"validation_interval_steps": 2, "gradient_accumulation_steps": accumulation}
    saves = SavesBefore()
    whole, seen = train(hooks={"saves": saves}, **args)
    for step, state in saves.states.items():
        resumed, again = train(state=copy.deepcopy(state), **args)
        assert difference(state_of(resumed), state_of(whole)) is None, step
        assert again.validations == [place for place in seen.validations if place[0] >= step]


@pytest.mark.parametrize("after", [{"max_steps": 7}, {"max_steps": 8}, {"max_steps": 10}, {"max_epochs": 1}])
@pytest.mark.parametrize(
    "interval", [{"validation_interval_steps": 4}, {"validation_interval": 2}, {"validation_interval_steps": 99}]
)
def test_run_that_has_ended_continues_with_more_steps_as_if_it_had_not(tmp_path, after, interval):
    def scheduler(optimizer):
        return ReduceLROnPlateau(optimizer, mode="max", patience=0, factor=0.5)

    def run(folder, state=None, **args):
        hooks = {"checkpoint": Checkpoint(), "metrics": MetricsJsonl()}
        return train(tmp_path / folder, hooks=hooks, state=state, scheduler=scheduler, **interval, **args)

    def records(folder):
        lines = (tmp_path / folder / "metrics.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if k != "time"} for line in lines]

    whole, _ = run("whole")
    _, before = run("ended", **after)
    # The end of the training is always validated.
    assert before.validations[-1][0] == after.get("max_steps", 5)
    state = CheckpointStore(tmp_path / "ended/checkpoints").load().state
    continued, _ = run("ended", state)
    assert difference(state_of(continued), state_of(whole)) is None
    additional = [line for line in records("ended") if line not in records("whole")]
    assert all(set(line) <= {"epoch", "step", "validate/score"} for line in additional if line["step"] % 5)
    assert [line["step"] for line in records("whole")] == [
        line["step"] for line in records("ended") if line not in additional or line["step"] % 5 == 0
    ]


def test_run_that_has_ended_within_an_epoch_is_not_trained_or_validated_again(tmp_path):
    hooks = {"checkpoint": Checkpoint()}
    trainer, _ = train(tmp_path, hooks=hooks, max_steps=7)
    assert (trainer.progress.epoch, trainer.progress.batch, trainer.progress.step) == (1, 2, 7)
    assert CheckpointStore(tmp_path / "checkpoints").best.name == "epoch_0002_step_0000007"
    state = CheckpointStore(tmp_path / "checkpoints").load().state
    again, seen = train(tmp_path, hooks=hooks, max_steps=7, state=state)
    assert (seen.validations, seen.epochs) == ([], [])
    assert difference(state_of(again), state_of(trainer)) is None


# ------------------------------------------------------------------------------- minutes


class Timed(Rising):
    def __init__(self, components, **args):
        super().__init__(components, **args)
        self._validation_times.clock = lambda: Clock.now


class Clock:
    """Each training step takes ten seconds, and each batch of a validation an hour."""

    now = 0.0

    @hookimpl
    def on_training_step_start(self):
        Clock.now += 10

    @hookimpl
    def on_evaluation_step_end(self):
        Clock.now += 3600


def test_validations_are_at_the_first_step_after_so_many_minutes():
    trainer, seen = train(cls=Timed, hooks={"clock": Clock()}, validation_interval_minutes=0.6)
    # 36 seconds are four steps. The time of a validation does not count.
    assert seen.validations == [(4, 1), (8, 2), (12, 3), (15, 3)]
    assert trainer.progress.validations == 3


def test_resumed_run_counts_the_time_before_it_was_stopped():
    saves = SavesBefore()
    args = {"cls": Timed, "validation_interval_minutes": 0.6}
    whole, before = train(hooks={"clock": Clock(), "saves": saves}, **args)
    for step, state in saves.states.items():
        resumed, seen = train(hooks={"clock": Clock()}, state=copy.deepcopy(state), **args)
        assert seen.validations == [place for place in before.validations if place[0] >= step], step
        assert difference(state_of(resumed), state_of(whole)) is None
