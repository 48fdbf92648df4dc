"""The borders between parts and hooks, on a clock that only moves when a test moves it."""

from types import SimpleNamespace

import pytest
import torch

from audiozen_core.errors import RunError
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.profiling import timeline
from audiozen_core.profiling.amounts import Amounts
from audiozen_core.profiling.timeline import Timeline


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(timeline, "perf_counter", lambda: now.seconds)
    return now


def test_the_time_of_a_hook_is_its_own_and_not_that_of_the_part_or_of_the_hook_that_calls_it(clock):
    line = Timeline()
    line.start()
    line.begin_step()
    line.begin("data")
    clock.seconds += 1
    line.begin("rest")
    clock.seconds += 2
    line.enter("outer")
    clock.seconds += 10
    line.enter("inner")
    clock.seconds += 20
    line.leave()
    clock.seconds += 40
    line.leave()
    clock.seconds += 4
    line.begin_step()
    line.begin("data")
    clock.seconds += 8
    line.stop()
    clock.seconds += 1000
    line.begin("rest")
    found = line.measured()
    assert found.parts == {"data": 9, "rest": 6, "hook outer": 50, "hook inner": 20}
    assert found.steps == [77, 8]


def test_nothing_counts_before_the_start_and_what_is_done_before_a_batch_counts_nowhere(clock):
    line = Timeline()
    line.begin("forward")
    clock.seconds += 5

    def start():
        clock.seconds += 300
        line.start()

    line.before_batch = start
    line.begin("data")
    clock.seconds += 1
    line.stop()
    assert line.measured().parts == {"data": 1}


def test_a_part_that_a_hook_begins_by_calling_the_trainer_is_time_of_the_hook(clock):
    line = Timeline()
    line.start()
    line.begin("rest")
    line.enter("validates")
    line.begin("outside")
    clock.seconds += 7
    line.begin("rest")
    line.leave()
    clock.seconds += 1
    line.stop()
    assert line.measured().parts == {"hook validates": 7, "rest": 1}


class Calls:
    """A hook, and a wrapper of another one. Each moves the clock."""

    def __init__(self, clock):
        self.clock = clock

    @hookimpl.on_epoch_start
    def on_epoch_start(self):
        self.clock.seconds += 1

    @hookimpl.autocast
    def autocast(self):
        self.clock.seconds += 100

    @hookimpl(wrapper=True)
    def stop_reason(self):
        self.clock.seconds += 2
        try:
            answer = yield
        except ValueError:
            self.clock.seconds += 16
            raise
        self.clock.seconds += 4
        return f"wrapped {answer}"


class Stops:
    def __init__(self, clock):
        self.clock, self.fails = clock, False

    @hookimpl.stop_reason
    def stop_reason(self):
        self.clock.seconds += 1000
        if self.fails:
            raise ValueError("planted")
        return "over"


@pytest.fixture
def watched(clock):
    line = Timeline()
    stops = Stops(clock)
    lifecycle = Lifecycle([Plugin("calls", Calls(clock)), Plugin("stops", stops)], watch=line)
    line.start()
    line.begin("rest")
    return SimpleNamespace(line=line, lifecycle=lifecycle, stops=stops)


def test_each_hook_of_a_lifecycle_is_reported(watched):
    watched.lifecycle.on_epoch_start(trainer=None, epoch=1)
    # The precision is part of the forward pass.
    watched.lifecycle.autocast(trainer=None)
    watched.line.stop()
    assert watched.line.measured().parts == {"hook calls": 1, "rest": 100}


def test_an_error_of_a_watched_hook_names_its_line(watched, monkeypatch):
    def fails(stops):
        raise RunError("planted")

    watched.stops.__class__ = type("Fails", (Stops,), {"stop_reason": hookimpl.stop_reason(fails)})
    lifecycle = Lifecycle([Plugin("stops", watched.stops)], watch=Timeline())
    with pytest.raises(RunError, match="planted") as error:
        lifecycle.stop_reason(trainer=None)
    (note,) = error.value.notes
    assert note.startswith("raised by: ")
    assert note.endswith(", in fails")


def test_a_wrapper_counts_without_what_it_wraps(watched):
    assert watched.lifecycle.stop_reason(trainer=None) == "wrapped over"
    watched.line.stop()
    assert watched.line.measured().parts == {"hook calls": 6, "hook stops": 1000, "rest": 0}


def test_an_error_passes_and_ends_the_time_of_the_hook(watched, clock):
    watched.stops.fails = True
    with pytest.raises(Exception, match="planted"):
        watched.lifecycle.stop_reason(trainer=None)
    clock.seconds += 32
    watched.line.stop()
    assert watched.line.measured().parts["rest"] == 32
    assert watched.line.measured().parts["hook stops"] == 1000


def test_audio_is_counted_without_padding():
    amounts = Amounts(sr=100)
    amounts.add({"noisy": torch.zeros(2, 500), "length": torch.tensor([100, 500])}, samples=2)
    amounts.add({"clean": torch.zeros(1, 3, 200)}, samples=1)  # several channels are one signal
    assert (amounts.samples, amounts.audio_seconds) == (3, 8)


@pytest.mark.parametrize(
    "batch", [{"x": torch.zeros(2, 9000)}, {"noisy": torch.zeros(2, 257, 500)}, {"noisy": torch.zeros(2, 3).int()}, 3]
)
def test_a_batch_that_may_be_no_audio_has_no_length(batch):
    amounts = Amounts(sr=100)
    amounts.add({"noisy": torch.zeros(2, 500)}, samples=2)
    amounts.add(batch, samples=1)
    assert amounts.audio_seconds is None
