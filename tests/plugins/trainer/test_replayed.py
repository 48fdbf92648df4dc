"""`audiozen replay` makes the steps of every first-party trainer again."""

import pytest

from audiozen_core.replay import output
from audiozen_core.replay.replay import replay
from audiozen_core.replay.target import BatchPosition, Target
from audiozen_core.testing.tiny import TinyExperiment
from tests.plugins.trainer import test_adversarial, test_flow, test_separation

TRAINERS = {
    "enhancement": (TinyExperiment, {}, {"noisy", "clean"}),
    "separation": (test_separation.experiment, {}, {"noisy", "source_1", "source_2"}),
    "adversarial": (test_adversarial.experiment, {"discriminator_steps": 2}, {"noisy", "clean"}),
    "flow": (test_flow.experiment, {"validation_sampling_steps": 1}, {"noisy", "clean"}),
}


@pytest.mark.parametrize("name", TRAINERS)
def test_the_step_is_that_of_the_training(tmp_path, monkeypatch, name):
    monkeypatch.setattr(output, "png", lambda picture, fast: b"")
    make, arguments, signals = TRAINERS[name]
    tiny = make(tmp_path, **arguments)
    tiny.set("trainer", log_interval=1, max_epochs=2)
    run = tiny.run().folder
    found = replay(run, Target(BatchPosition(2, 1)), step=True)
    assert {*found.samples[0].waves} == signals
    assert found.recorded.keys() > {*found.step.losses}
    assert found.step.scalars.keys() <= found.recorded.keys()
    assert found.differing_scalars == []
    assert any(row.weight_gradient for row in found.step.rows)
