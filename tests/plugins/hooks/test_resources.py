import json
from types import SimpleNamespace

import pytest
import torch

from audiozen_core.hooks.specs import hookimpl
from audiozen_core.trainer import passes
from audiozen_plugins.hooks import resources
from audiozen_plugins.hooks.metrics_jsonl import MetricsJsonl
from audiozen_plugins.hooks.resources import Resources
from tests.tiny_training import Pairs, TinyTrainer, make_loader, make_trainer, state_of, weights_of

TIMES = {"seconds_data", "seconds_compute"}


@pytest.fixture
def clock(monkeypatch):
    """Returns a clock that only moves when a test moves it."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(passes, "perf_counter", lambda: now.seconds)
    monkeypatch.setattr(resources, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
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


def test_with_several_ranks_the_one_that_has_waited_longest_counts(clock):
    trainer = SimpleNamespace(
        device=torch.device("cpu"), data_seconds=0.0, progress=SimpleNamespace(step=0), log_interval=0
    )
    hook = Resources()
    hook.on_epoch_start(trainer)
    clock.seconds += 10
    trainer.data_seconds, trainer.progress.step = 2.0, 2
    trainer.ranks = SimpleNamespace(gather=lambda own: [own, ({"memory_gib": 99.0}, (3.0, 2.0))])
    assert hook.epoch_scalars(trainer) == {"memory_gib": 99.0, "seconds_data": 3.0, "seconds_compute": 2.0}


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
