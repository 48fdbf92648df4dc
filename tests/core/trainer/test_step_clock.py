"""How often a step reads the clock, and what happens to the time of a part that an error ends."""

import pytest

from audiozen_core.errors import AudioZenError
from audiozen_core.trainer import step_clock
from audiozen_core.trainer.step_clock import PARTS, StepClock
from tests.tiny_training import TinyTrainer, make_loader, make_trainer


@pytest.fixture
def readings(monkeypatch):
    """Returns the times that a clock has shown; it goes on by one second at each reading."""
    shown = []
    monkeypatch.setattr(step_clock, "perf_counter", lambda: shown.append(len(shown)) or float(len(shown)))
    return shown


def test_a_part_lasts_until_the_next_one_begins(readings):
    clock = StepClock()
    clock.begin("data")
    clock.begin("forward")
    clock.begin("data")
    clock.begin("rest")
    assert clock.seconds() == {**dict.fromkeys(PARTS, 0.0), "outside": 1, "data": 2, "forward": 1, "rest": 1}
    assert sum(clock.seconds().values()) == len(readings) - 1


def test_a_step_reads_the_clock_ten_times(readings):
    def count(batches):
        before = len(readings)
        make_trainer(max_epochs=1, log_interval=0).train(make_loader(4 * batches))
        return len(readings) - before

    assert count(5) - count(2) == 3 * 10


def test_the_time_of_a_step_that_fails_is_that_of_its_part(readings):
    class Fails(TinyTrainer):
        def training_step(self, batch, batch_idx):
            readings.extend(range(50))
            raise ValueError("planted")

    trainer = make_trainer(cls=Fails)
    with pytest.raises(AudioZenError):
        trainer.train(make_loader())
    assert trainer.part_seconds["forward"] == 51
    assert trainer.data_seconds == 1
