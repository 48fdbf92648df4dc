"""`num_threads = "auto"`: what is measured, remembered, recorded, and what a resume takes."""

import json
import sys
import threading
from types import SimpleNamespace

import pytest
import tomli
import torch

from audiozen_core.config.used_plugins import used_plugins_header
from audiozen_core.errors import AudioZenError, ConfigError
from audiozen_core.experiment import auto_threads, threads
from audiozen_core.experiment.dry_run import dry_run
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.experiment.run_records import training_records
from audiozen_core.experiment.threads import fastest_count, time_threads
from audiozen_core.experiment.timed_pass import run_pass
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.registry import code_hash
from audiozen_core.tuning.short_training import short_training
from tests.tiny_experiment import TinyExperiment

PARTS = """
BUILT = []


class Net(nn.Sequential):
    # Random numbers and running means would show whether a measurement left anything behind.
    def __init__(self):
        super().__init__(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
        BUILT.append(torch.get_num_threads())


class Threads:
    affects_training = False

    def __init__(self, times: int = 1): ...

    @hookimpl
    def on_epoch_start(self, trainer):
        trainer.log.info(f"trains with {torch.get_num_threads()}")


class Widens:
    def __init__(self, times: int = 1): ...

    @hookimpl
    def on_component_built(self, section, component): ...
"""
NET = ('path = "torch.nn.Linear"\nargs = {in_features = 4, out_features = 1}', 'path = "parts.Net"')
HOOK = ("[dataset]", '[[hooks]]\npath = "tensorboard"\nenabled = false\n[[hooks]]\npath = "parts.Threads"\n[dataset]')


def count_of(value):
    return 'device = "cpu"', f'device = "cpu"\nnum_threads = {value}'


AUTO = (NET, HOOK, count_of('"auto"'))


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A machine with two processors and nothing to do, on which a pass takes `seconds[threads]`."""
    now = SimpleNamespace(time=0.0, waited=0.0, seconds={1: 1.0, 2: 0.5}, passes=[], extra=lambda: 0.0)

    def timed(*arguments):
        result = run_pass(*arguments)
        now.passes.append(torch.get_num_threads())
        now.time += now.seconds[torch.get_num_threads()] + now.extra()
        return result

    monkeypatch.setattr(threads, "perf_counter", lambda: now.time)
    monkeypatch.setattr(threads, "_cpu_waits", lambda: {"1": now.waited, "2": now.waited / 2})
    monkeypatch.setattr(auto_threads, "run_pass", timed)
    monkeypatch.setattr(auto_threads, "usable_cpus", lambda: 2)
    monkeypatch.setattr(auto_threads, "busy_reason", lambda: "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = torch.get_num_threads()
    yield now
    torch.set_num_threads(before)


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path, PARTS)


def cached(tiny):
    return sorted((tiny.folder / "cache/audiozen/threads").glob("*.json"))


def trained_with(tiny, name="tiny"):
    lines = [json.loads(line) for line in (tiny.folder / f"exp/{name}/{name}.log").read_text().splitlines()]
    return [int(line["event"][-1]) for line in lines if line["event"].startswith("trains with ")]


def recorded(tiny, name="tiny"):
    """The number in the newest record of a training run, and the line that says why."""
    file = training_records(tiny.folder / "exp" / name)[0]
    return tomli.loads(file.read_text())["meta"]["num_threads"], used_plugins_header(file, "threads")


def test_the_fastest_number_is_measured_used_recorded_and_remembered(tiny, machine):
    state = tiny.run(*AUTO)
    assert machine.passes == [1, 2] * 5
    assert trained_with(tiny) == [2, 2]
    assert recorded(tiny) == (2, "2, because 2 threads are 2.0 times as fast as 1")
    assert tomli.loads(state["extra"]["config"])["meta"]["num_threads"] == 2
    (file,) = cached(tiny)
    assert json.loads(file.read_text())["num_threads"] == 2
    # Another seed trains the same network on the same machine.
    machine.passes.clear()
    tiny.run(*AUTO, ("[meta]", "[meta]\nseed = 5"), name="again")
    assert machine.passes == []
    number, why = recorded(tiny, "again")
    assert number == 2
    assert why.startswith("2, because 2 threads are 2.0 times as fast as 1, measured on 20")


@pytest.mark.parametrize("cold", [{1}, {2}])
def test_imports_and_compilation_in_the_first_passes_are_not_timed(tiny, machine, cold):
    """`cold` are the numbers of threads whose first pass takes longer. One thread is almost as fast as two."""
    machine.seconds = {1: 0.05, 2: 0.045}
    to_do = set(cold)

    def first_call():
        now = torch.get_num_threads()
        is_cold = now in to_do
        to_do.discard(now)
        return 30.0 if is_cold else 0.0

    machine.extra = first_call
    tiny.run(*AUTO)
    assert recorded(tiny) == (1, "1, because 2 threads are only 1.1 times as fast as 1")
    assert json.loads(cached(tiny)[0].read_text())["seconds"] == {
        "1": pytest.approx(0.05),
        "2": pytest.approx(0.045),
    }


def test_a_choice_that_was_measured_in_another_way_is_not_read(tiny, machine, monkeypatch):
    tiny.run(*AUTO)
    monkeypatch.setattr(auto_threads, "_SCHEME", auto_threads._SCHEME - 1)
    machine.passes.clear()
    tiny.run(*AUTO, name="again")
    assert machine.passes == [1, 2] * 5


def test_the_number_that_others_are_compared_with_is_never_ruled_out(machine):
    """A single pass with one thread could not show that the measurement was disturbed."""
    machine.seconds = {1: 8.0, 2: 1.0}

    def run():
        machine.time += machine.seconds[torch.get_num_threads()]

    times = time_threads(run, [1, 2])
    assert {count: len(passes) for count, passes in times.seconds.items()} == {1: 3, 2: 3}
    assert not threads.disturbed_reason(times)


def test_a_step_of_another_size_is_measured_anew(tiny, machine):
    tiny.run(*AUTO)
    machine.passes.clear()
    tiny.run(*AUTO, ("batch_size = 2", "batch_size = 3"), name="larger")
    assert machine.passes == [1, 2] * 5
    assert len(cached(tiny)) == 2


@pytest.mark.parametrize(("hook", "choices"), [("Widens", 2), ("Threads", 1)])
def test_another_argument_of_a_hook_is_measured_anew_unless_the_hook_only_watches(tiny, machine, hook, choices):
    two = ('path = "parts.Threads"', 'path = "parts.Threads"\n[[hooks]]\npath = "parts.Widens"')
    tiny.run(*AUTO, two)
    machine.passes.clear()
    tiny.run(*AUTO, two, (f'"parts.{hook}"', f'"parts.{hook}"\nargs.times = 50'), name="other")
    assert len(cached(tiny)) == choices
    assert bool(machine.passes) == (choices == 2)


def test_without_a_default_hook_that_sets_the_precision_a_step_is_measured_anew(tiny, machine):
    tiny.run(*AUTO)
    tiny.run(*AUTO, ("[dataset]", '[[hooks]]\npath = "progress"\nenabled = false\n[dataset]'), name="quiet")
    assert len(cached(tiny)) == 1
    tiny.run(*AUTO, ("[dataset]", '[[hooks]]\npath = "amp"\nenabled = false\n[dataset]'), name="precise")
    assert len(cached(tiny)) == 2


def test_another_numba_is_measured_anew(tiny, machine, monkeypatch):
    tiny.run(*AUTO)
    monkeypatch.setattr(auto_threads, "numba_version", lambda: "0.0.1")
    tiny.run(*AUTO, name="kernels")
    assert len(cached(tiny)) == 2


def test_with_deterministic_algorithms_a_step_is_measured_anew(tiny, machine):
    tiny.run(*AUTO)
    tiny.run(*AUTO, ('device = "cpu"', 'device = "cpu"\nuse_deterministic_algorithms = true'), name="repeatable")
    assert len(cached(tiny)) == 2


@pytest.mark.parametrize(("changed", "choices"), [("acme_gates", 2), ("acme_other", 1)])
def test_after_an_upgrade_of_a_package_that_a_module_imports_a_step_is_measured_anew(
    tiny, machine, monkeypatch, changed, choices
):
    (tiny.folder / "lib").mkdir()
    (tiny.folder / "lib" / "acme_gates.py").write_text("def gate(): ...\n")
    monkeypatch.syspath_prepend(tiny.folder / "lib")
    monkeypatch.delitem(sys.modules, "acme_gates", raising=False)
    gates = ("class Net(", "from acme_gates import gate\n\n\nclass Net(")
    (tiny.folder / "parts.py").write_text((tiny.folder / "parts.py").read_text().replace(*gates))
    tiny.run(*AUTO)
    read = code_hash.version_of
    monkeypatch.setattr(code_hash, "version_of", lambda name: "9.9" if name == changed else read(name))
    tiny.run(*AUTO, name="upgraded")
    assert len(cached(tiny)) == choices


def test_a_measurement_changes_nothing_of_the_training(tiny, machine):
    measured = tiny.run(*AUTO, ("[meta]", "[meta]\nseed = 3"))
    assert machine.passes
    plain = tiny.run(NET, HOOK, count_of(2), ("[meta]", "[meta]\nseed = 3"), name="plain")
    other = tiny.run(NET, HOOK, count_of(2), ("[meta]", "[meta]\nseed = 4"), name="other")
    for name, weight in measured["model"].items():
        assert torch.equal(weight, plain["model"][name]), name
    assert not torch.equal(measured["model"]["0.weight"], other["model"]["0.weight"])
    assert torch.equal(measured["rng"]["torch"], plain["rng"]["torch"])


@pytest.mark.parametrize("seconds", [{1: 1.0, 2: 0.8}, {1: 1.0, 2: 20.0}])
def test_threads_that_gain_little_or_wait_for_each_other_are_not_used(tiny, machine, seconds):
    machine.seconds = seconds
    tiny.run(*AUTO)
    assert trained_with(tiny) == [1, 1]
    assert recorded(tiny)[1].startswith("1, because 2 threads are only ")
    # What is hopeless is timed once, after the untimed pass.
    assert machine.passes.count(2) == (5 if seconds[2] < 1 else 2)


def test_a_busy_machine_is_not_measured_and_the_choice_is_not_remembered(tiny, machine, monkeypatch):
    tiny.run(*AUTO)  # so that it is remembered that two threads are faster
    machine.passes.clear()
    monkeypatch.setattr(auto_threads, "busy_reason", lambda: "the machine is busy: planted")
    tiny.run(*AUTO, name="busy")
    assert machine.passes == []
    assert trained_with(tiny, "busy") == [1, 1]
    assert recorded(tiny, "busy") == (1, "1, because the machine is busy: planted")
    tiny.run(*AUTO, ("batch_size = 2", "batch_size = 3"), name="other")
    assert len(cached(tiny)) == 1


def test_a_disturbed_measurement_leads_to_one_thread_and_is_not_remembered(tiny, machine):
    slow = iter([0, 0, 0, 0, 3.0, 0, 3.0, 0, 3.0, 0])
    machine.extra = lambda: next(slow)
    tiny.run(*AUTO)
    assert trained_with(tiny) == [1, 1]
    assert recorded(tiny)[1] == "1, because the machine is busy: equal passes with one thread took 1.000 to 4.000 s"
    assert cached(tiny) == []


def test_a_program_that_delays_one_of_two_threads_leads_to_one_thread_and_nothing_is_cached(tiny, machine):
    """Such a program delays passes with two threads only, so the times alone look like those of another network."""
    machine.seconds = {1: 0.1, 2: 0.3}

    def wait():
        machine.waited += 0.15 if torch.get_num_threads() == 2 else 0.0
        return 0.0

    machine.extra = wait
    tiny.run(*AUTO)
    assert trained_with(tiny) == [1, 1]
    assert (
        recorded(tiny)[1]
        == "1, because the machine is busy: with 2 threads, a thread waited for a CPU for 50 % of the time"
    )
    assert cached(tiny) == []
    # Without such a program, the same times are a property of the network.
    machine.extra = lambda: 0.0
    tiny.run(*AUTO, name="slow")
    assert recorded(tiny, "slow")[1] == "1, because 2 threads are only 0.3 times as fast as 1"
    assert len(cached(tiny)) == 1


def test_passes_are_timed_until_a_short_disturbance_is_over(tiny, machine):
    machine.seconds = {1: 0.1, 2: 0.05}

    def disturb():
        delay = 0.35 if machine.time < 2 and torch.get_num_threads() == 2 else 0.0
        machine.waited += delay
        return delay

    machine.extra = disturb
    tiny.run(*AUTO)
    assert machine.time > 2
    assert recorded(tiny) == (2, "2, because 2 threads are 2.0 times as fast as 1")
    assert len(cached(tiny)) == 1


def test_short_passes_are_timed_for_a_second(machine):
    machine.seconds = {1: 0.01, 2: 0.005}

    def run():
        machine.time += machine.seconds[torch.get_num_threads()]

    time_threads(run, [1, 2])
    assert machine.time == pytest.approx(1.015, abs=0.02)


def test_linux_says_how_long_a_thread_waited_for_a_cpu(monkeypatch):
    monkeypatch.undo()
    first, second = threads._cpu_waits(), threads._cpu_waits()
    if not first:
        pytest.skip("this system does not say how long a thread waits for a CPU")
    assert str(threading.get_native_id()) in first
    assert all(second[thread] >= seconds >= 0 for thread, seconds in first.items() if thread in second)


def test_a_resume_takes_the_number_of_the_run(tiny, machine, monkeypatch):
    first = ("max_epochs = 2", "max_epochs = 1")
    tiny.run(*AUTO, first)
    machine.seconds = {1: 1.0, 2: 5.0}
    for file in cached(tiny):
        file.unlink()
    machine.passes.clear()
    monkeypatch.setattr(auto_threads, "busy_reason", lambda: "the machine is busy: planted")
    resumed = tiny.run(*AUTO, resume=True)
    assert machine.passes == []
    assert trained_with(tiny) == [2, 2]
    assert recorded(tiny) == (2, "2, because the training that saved epoch_0001 used 2")
    whole = tiny.run(NET, HOOK, count_of(2), name="whole")
    assert all(torch.equal(weight, whole["model"][name]) for name, weight in resumed["model"].items())


def test_a_resume_takes_a_number_that_the_file_had_before(tiny, machine):
    tiny.run(NET, HOOK, count_of(2), ("max_epochs = 2", "max_epochs = 1"))
    machine.seconds = {1: 1.0, 2: 5.0}
    tiny.run(*AUTO, resume=True)
    assert trained_with(tiny) == [2, 2]
    assert machine.passes == []


def test_an_evaluation_takes_the_number_of_the_training(tiny, machine):
    tiny.run(*AUTO)
    machine.passes.clear()
    machine.seconds = {1: 1.0, 2: 5.0}
    torch.set_num_threads(1)
    tiny.run(*AUTO, modes=("test",))
    assert torch.get_num_threads() == 2
    assert machine.passes == []


def test_one_processor_and_several_processes_leave_nothing_to_measure(tiny, machine, monkeypatch):
    experiment = Experiment.load(tiny.write(*AUTO))
    experiment.ranks = SimpleNamespace(several=True)
    experiment.settle_threads()
    assert experiment.config.meta.num_threads == 1
    assert experiment.thread_choice.reason == "several processes share the machine"
    monkeypatch.setattr(auto_threads, "usable_cpus", lambda: 1)
    alone = Experiment.load(tiny.write(*AUTO))
    alone.settle_threads()
    assert alone.thread_choice.reason == "this process may use one processor only"
    assert machine.passes == []


def test_check_and_short_trainings_use_the_same_choice(tiny, machine):
    assert dry_run(Experiment.load(tiny.write(*AUTO)))["threads"] == "2; 2 threads are 2.0 times as fast as 1"
    seen = []

    class Stops:
        @hookimpl.stop_within_epoch_reason
        def stop_within_epoch_reason(self):
            seen.append(torch.get_num_threads())
            return "enough"

    torch.set_num_threads(1)
    with short_training(Experiment.load(tiny.write(*AUTO)), Stops()) as (trainer, loader):
        trainer.train(loader)
    with short_training(Experiment.load(tiny.write(*AUTO)), Stops(), batch_size=3) as (trainer, loader):
        trainer.train(loader)
    assert seen == [2, 1]
    assert machine.passes == [1, 2] * 5
    assert not (tiny.folder / "exp").exists()


# `True` equals 1, and 2.0 equals 2, but they would be written into the record of the run.
DAMAGED = (
    *("{", "[]"),
    *(f'{{"num_threads": {count}, "reason": "", "measured": ""}}' for count in ("64", "true", "2.0")),
)


def test_a_remembered_number_that_can_not_be_read_is_measured_again(tiny, machine):
    tiny.run(*AUTO)
    (file,) = cached(tiny)
    for number, content in enumerate(DAMAGED):
        file.write_text(content)
        machine.passes.clear()
        tiny.run(*AUTO, name=f"again_{number}")
        assert machine.passes == [1, 2] * 5
        assert json.loads(file.read_text())["num_threads"] == 2


def test_an_error_in_a_step_is_shown_as_without_the_measurement(tiny):
    bad = ('path = "torch.nn.MSELoss"', 'path = "torch.nn.NLLLoss"')
    with pytest.raises(AudioZenError) as auto:
        tiny.run(NET, count_of('"auto"'), bad)
    with pytest.raises(AudioZenError) as plain:
        tiny.run(NET, count_of(1), bad, name="plain")
    assert str(auto.value).replace("exp/tiny", "exp/plain") == str(plain.value)
    assert "returned by [model]" in str(plain.value)
    assert recorded(tiny)[1].startswith("1, because a forward and backward pass outside a training run fails: ")
    assert cached(tiny) == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('"atuo"', "`meta.num_threads` can't be `atuo`"),
        ("0", "`meta.num_threads` is 0, but must be from 1 to 1024"),
        ("1.5", "`meta.num_threads` must be "),
        ("true", "`meta.num_threads` must be "),
    ],
)
def test_a_wrong_number_is_an_error_at_its_place(tiny, value, message):
    with pytest.raises(ConfigError, match="num_threads") as error:
        Experiment.load(tiny.write(count_of(value)))
    (found,) = error.value.diagnostics
    assert found.message.startswith(message)
    assert found.span.line == 4
    if value == '"atuo"':
        assert found.suggestion == '"auto"'
        assert found.notes == ("one of: `auto`, an integer",)


@pytest.mark.parametrize(
    ("best", "count"),
    [
        ({1: 1.0, 2: 0.77}, 1),
        ({1: 1.0, 2: 0.76}, 2),
        ({1: 1.0, 2: 0.6, 4: 0.5, 8: 0.46}, 4),
        ({1: 1.0, 2: 3.0, 4: 0.7}, 4),
    ],
)
def test_several_threads_must_gain_a_good_deal(best, count):
    assert fastest_count(best) == count


def test_numbers_take_turns_and_the_threads_are_as_before(machine):
    used = []

    def run():
        used.append(torch.get_num_threads())
        machine.time += machine.seconds[used[-1]]
        if len(used) == 20:
            raise ValueError("planted")

    torch.set_num_threads(3)
    machine.seconds = {1: 1.0, 2: 0.9}
    times = time_threads(run, [1, 2], rounds=3)
    assert times.seconds == {1: pytest.approx([1.0] * 3), 2: pytest.approx([0.9] * 3)}
    assert times.waits == {1: [0.0] * 3, 2: [0.0] * 3}
    assert used == [1, 2] * 4
    assert torch.get_num_threads() == 3
    # After the time, a round is not begun; each number has been timed once at least.
    assert [len(of) for of in time_threads(run, [1, 2], rounds=9, seconds=1.5).seconds.values()] == [1, 1]
    with pytest.raises(ValueError, match="planted"):
        time_threads(run, [1, 2], rounds=9)
    assert torch.get_num_threads() == 3


def test_a_single_round_comes_after_an_untimed_pass_too(machine):
    """`torch.compile` compiles again for another number of threads."""
    delays = [30.0, 0.0]

    def run():
        machine.time += machine.seconds[torch.get_num_threads()] + delays.pop(0)

    assert time_threads(run, [1], once=True).seconds == {1: [1.0]}
    assert not delays


SAYS = """
class Says(Data):
    def __init__(self):
        super().__init__()
        get_logger().warning("said once")
"""


def test_what_the_measurement_says_is_not_said_twice(tiny, machine):
    parts = tiny.folder / "parts.py"
    parts.write_text(f"from audiozen_core.logging import get_logger\n{parts.read_text()}\n\n{SAYS}")
    tiny.run(*AUTO, ('[dataset]\npath = "parts.Data"', '[dataset]\npath = "parts.Says"'))
    assert machine.passes
    assert (tiny.folder / "exp/tiny/tiny.log").read_text().count("said once") == 1
