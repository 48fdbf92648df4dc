import json
from types import SimpleNamespace

import pytest
import torch

from audiozen_core.hooks.marker import hookimpl
from audiozen_core.trainer import step_clock
from audiozen_core.trainer.step_clock import STEP_PARTS
from audiozen_plugins.hooks.metrics_jsonl import MetricsJsonl
from audiozen_plugins.hooks.resources import Resources
from tests.tiny_training import Pairs, TinyTrainer, make_loader, make_trainer, state_of, weights_of

TIMES = {"seconds_data", "seconds_compute"}


@pytest.fixture
def clock(monkeypatch):
    """Returns a clock that only moves when a test moves it."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(step_clock, "perf_counter", lambda: now.seconds)
    return now


@pytest.fixture
def training(clock, monkeypatch, tmp_path):
    """Returns a function that trains: an item takes 1 s, a training step 7 s, a validation batch 1000 s."""

    def get(self, index, real=Pairs.__getitem__):
        clock.seconds += 1
        return real(self, index)

    monkeypatch.setattr(Pairs, "__getitem__", get)

    class Slow(TinyTrainer):
        def training_step(self, batch, batch_idx):
            clock.seconds += 7
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch, batch_idx, dataloader_idx):
            clock.seconds += 1000
            return super().validation_step(batch, batch_idx, dataloader_idx)

    def train(state=None, hooks=None, **args):
        hooks = {"resources": Resources(), "jsonl": MetricsJsonl(), **(hooks or {})}
        trainer = make_trainer(tmp_path, cls=Slow, hooks=hooks, **args)
        if state:
            trainer.load_checkpoint(state)
        trainer.train(make_loader(), [make_loader()])
        return [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]

    return train


def times(records, prefix):
    names = [f"{prefix}/seconds_data", f"{prefix}/seconds_compute"]
    return [tuple(record[name] for name in names) for record in records if names[0] in record]


def test_time_of_a_step_is_split_into_data_and_compute(training):
    records = training(max_epochs=2, log_interval=0)
    assert times(records, "train") == [(4, 7), (4, 7)]  # four items in a batch
    assert times(records, "step") == []


def test_time_is_that_of_an_optimiser_step_with_all_its_batches(training):
    assert times(training(max_epochs=1, gradient_accumulation_steps=5), "train") == [(20, 35)]


def test_validations_within_an_epoch_do_not_count(training):
    records = training(max_epochs=1, validation_interval_steps=2, log_interval=4)
    assert times(records, "train") == [(4, 7)]
    assert times(records, "step") == [(4, 7)]


def test_compute_is_split_into_the_parts_of_a_step(training, clock):
    class Slow:
        """Moves the clock in each part of a step: 64 s in hooks, and as many in the backward pass and the optimiser."""

        @hookimpl
        def on_training_step_start(self):
            clock.seconds += 60

        @hookimpl
        def backward(self):
            clock.seconds += 100

        @hookimpl
        def optimizer_step(self):
            clock.seconds += 300

        @hookimpl
        def on_optimizer_step_end(self):
            clock.seconds += 4

    (record,) = [record for record in training(max_epochs=1, hooks={"slow": Slow()}) if "train/loss" in record]
    parts = {name.partition("seconds_")[2]: record[name] for name in record if name.startswith("train/seconds_")}
    assert parts == {
        **{"data": 4, "compute": 471},
        **{"transfer": 0, "forward": 7, "backward": 100, "optimizer": 300, "rest": 64},
    }


@pytest.mark.parametrize("interval", [None, 2])
def test_each_moment_of_a_training_belongs_to_one_part(clock, training, interval):
    began = clock.seconds
    trainers = []

    class Keeps:
        @hookimpl
        def on_setup(self, trainer):
            trainers.append(trainer)

        @hookimpl
        def on_epoch_end(self, trainer):
            clock.seconds += 500
            trainers.append(trainer)

    training(max_epochs=2, validation_interval_steps=interval, hooks={"keeps": Keeps()})
    parts = trainers[-1].part_seconds
    assert sum(parts.values()) == clock.seconds - began
    # Two epochs of 5 batches; 5 batches are validated after each epoch, or after each of 4 windows and at the end.
    validations = 2 if interval is None else 5
    assert parts == {
        **{"data": 40, "transfer": 0, "forward": 70, "backward": 0, "optimizer": 0, "rest": 0},
        "outside": 2 * 500 + validations * (5 * 1000 + 20),
    }


def test_every_log_interval_records_the_time_since_the_last_one(training):
    records = training(max_epochs=2, log_interval=2)
    assert [(record["step"], record["epoch"]) for record in records if "step/seconds_data" in record] == [
        (2, 1),
        (4, 1),
        (6, 2),
        (8, 2),
        (10, 2),
    ]
    assert times(records, "step") == [(4, 7)] * 5


def test_a_run_resumed_within_an_epoch_measures_its_own_steps(training):
    states = []

    class Stops:
        @hookimpl
        def on_training_step_end(self, trainer, batch_idx):
            states.append(state_of(trainer))

    training(max_epochs=1, log_interval=0, hooks={"stops": Stops()})
    # After three of five batches; the loader makes batches again only in the resumed run.
    assert times(training(states[2], max_epochs=1, log_interval=0), "train") == [(4, 7)]
    # After the last batch nothing is left to measure.
    assert times(training(states[4], max_epochs=1, log_interval=0), "train") == []


def test_with_several_ranks_the_one_that_has_waited_longest_counts(monkeypatch):
    parts = dict.fromkeys(STEP_PARTS, 0.0)
    trainer = SimpleNamespace(
        device=torch.device("cuda"), part_seconds=parts, progress=SimpleNamespace(step=0), log_interval=0
    )
    trainer.gpu_part_seconds = {}, 0
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 0)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: 0)
    hook = Resources()
    hook.on_epoch_start(trainer)
    trainer.part_seconds, trainer.progress.step = {**parts, "data": 2.0, "forward": 8.0, "outside": 50.0}, 2
    slower = {"seconds_data": 3.0, "seconds_compute": 2.0}
    trainer.ranks = SimpleNamespace(gather=lambda own: [own, ({"memory_gib": 99.0}, slower)])
    found = hook.epoch_scalars(trainer)
    assert {name: value for name, value in found.items() if "gpu" not in name} == {"memory_gib": 99.0, **slower}
    # The times of the program say nothing about the parts of a step on a GPU.
    trainer.ranks = SimpleNamespace(gather=lambda own: [own])
    assert {name for name in hook.epoch_scalars(trainer) if name.startswith("seconds")} == TIMES
    # Two steps were measured on the GPU.
    trainer.gpu_part_seconds = {**parts, "forward": 3.0, "outside": 9.0}, 2
    found = hook.epoch_scalars(trainer)
    assert (found["gpu_seconds_forward"], found["gpu_seconds_data"]) == (1.5, 0.0)
    assert "gpu_seconds_outside" not in found
    trainer.device = torch.device("cpu")
    assert hook.epoch_scalars(trainer)["seconds_forward"] == 4.0


def test_peak_memory_of_the_process_is_recorded(training):
    (record,) = [record for record in training(max_epochs=1) if "train/memory_gib" in record]
    assert 0.05 < record["train/memory_gib"] < 64
    assert "train/gpu_gib" not in record


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_memory_of_the_gpu_is_recorded():
    trainer = SimpleNamespace(device=torch.device("cuda"), ranks=SimpleNamespace(gather=lambda own: [own]))
    tensor = torch.zeros(1 << 28, device="cuda")
    scalars = Resources().epoch_scalars(trainer)
    assert tensor.numel() * 4 / 2**30 == 1
    assert 1 <= scalars["gpu_gib"] <= scalars["gpu_reserved_gib"]


def test_the_hook_does_not_change_the_training(tmp_path):
    plain = make_trainer(tmp_path, max_epochs=2)
    plain.train(make_loader())
    measured = make_trainer(tmp_path, max_epochs=2, log_interval=1, hooks={"resources": Resources()})
    measured.train(make_loader())
    assert torch.equal(weights_of(plain), weights_of(measured))
