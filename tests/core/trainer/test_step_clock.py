"""How often a step reads the clock, and what happens to the time of a part that an error ends."""

from types import SimpleNamespace

import pytest
import torch

from audiozen_core.errors import AudioZenError
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.trainer import step_clock
from audiozen_core.trainer.step_clock import STEP_PARTS, GpuStepClock, StepClock
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
    assert clock.seconds() == {**dict.fromkeys(STEP_PARTS, 0.0), "outside": 1, "data": 2, "forward": 1, "rest": 1}
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


class Queue:
    """A GPU that does the work that is queued only when a test lets it. An event has the time when it is reached."""

    def __init__(self):
        self.work, self.time, self.reads = [], 0.0, 0

    def add(self, seconds):
        self.work.append(seconds)

    def run(self):
        for work in self.work:
            if isinstance(work, Event):
                work.time = self.time
            else:
                self.time += work
        self.work.clear()


class Event:
    queue: Queue

    def __init__(self, enable_timing):
        assert enable_timing
        self.time = None

    def record(self, stream):
        assert stream == "stream"
        self.queue.add(self)

    def query(self):
        return self.time is not None

    def elapsed_time(self, end):
        return 1000 * (end.time - self.time)  # an error for an event that the GPU has not reached


@pytest.fixture
def gpu(monkeypatch):
    queue = Queue()
    monkeypatch.setattr(torch.cuda, "Event", type("Event", (Event,), {"queue": queue}))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "stream")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: pytest.fail("it must not wait"))
    return SimpleNamespace(queue=queue, clock=GpuStepClock(torch.device("cuda")))


def gpu_step(gpu, *, forward=2.0, validation=0.0):
    for part, seconds in {"data": 1.0, "forward": forward, "backward": 4.0, "optimizer": 8.0, "rest": 0.5}.items():
        if part == "optimizer":
            gpu.clock.end_step()
        gpu.clock.begin(part)
        gpu.queue.add(seconds)
    if validation:
        gpu.clock.begin("outside")
        gpu.queue.add(validation)


def test_one_step_of_sixteen_is_measured_on_a_gpu_from_optimiser_to_optimiser(gpu):
    gpu_step(gpu, forward=100.0)  # the first step allocates memory
    gpu_step(gpu, validation=64.0)  # its optimiser, and all of the next step, are measured
    for _ in range(30):
        gpu_step(gpu)
        gpu.queue.run()
    seconds, steps = gpu.clock.gpu_seconds()
    assert steps == 2
    assert seconds == {
        **dict.fromkeys(STEP_PARTS, 0.0),
        **{"data": 2.0, "forward": 4.0, "backward": 8.0, "optimizer": 16.0, "rest": 1.0, "outside": 64.0},
    }


def test_what_the_gpu_has_not_done_yet_is_read_later(gpu):
    for _ in range(4):
        gpu_step(gpu)
    assert gpu.clock.gpu_seconds() == (dict.fromkeys(STEP_PARTS, 0.0), 0)
    gpu.queue.run()
    assert gpu.clock.gpu_seconds()[1] == 1
    assert gpu.clock.gpu_seconds()[0]["optimizer"] == 8.0


def test_without_a_gpu_nothing_is_measured_on_one():
    trainer = make_trainer(max_epochs=1)
    trainer.train(make_loader())
    assert trainer.gpu_part_seconds == ({}, 0)


def test_a_step_ends_once_even_if_its_batch_is_skipped(monkeypatch):
    """Otherwise a clock would take this step and the next one for a single step."""

    class Skips:
        @hookimpl.skip_batch
        def skip_batch(self, batch_idx):
            return batch_idx == 1

    ends = []
    monkeypatch.setattr(StepClock, "end_step", lambda clock: ends.append(None))
    trainer = make_trainer(max_epochs=1, hooks={"skips": Skips()})
    trainer.train(make_loader())
    assert len(ends) == trainer.progress.step > 2
