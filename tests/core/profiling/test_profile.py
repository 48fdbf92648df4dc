"""What a profile finds in trainings whose bottleneck is known, because it sleeps."""

import dataclasses
import gzip
import json

import pytest

from audiozen_core.errors import RunError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.profiling import trace as trace_module
from audiozen_core.profiling.advice import advice, left_out_note, wanted_workers
from audiozen_core.profiling.profile import StepProfile, profile_training
from tests.tiny_experiment import TinyExperiment

PARTS = """
import json, time
from pathlib import Path

HERE = Path(__file__).parent


class SlowData(Data):
    def __init__(self, seconds: float):
        super().__init__()
        self.seconds = seconds

    def __getitem__(self, index):
        time.sleep(self.seconds)
        return super().__getitem__(index)


class Slow:
    def __init__(self, seconds: float):
        self.seconds = seconds

    @hookimpl
    def on_training_step_end(self):
        if self.seconds:
            time.sleep(self.seconds)


class Stops:
    @hookimpl
    def stop_within_epoch_reason(self, trainer):
        return "planted" if trainer.progress.step == 5 else None


class Uploads:
    affects_training = False

    @hookimpl
    def on_run_start(self):
        raise RuntimeError("a training that keeps nothing must not be uploaded")


class Writes:
    affects_training = False
    stays_in_folder = True

    @hookimpl
    def on_training_step_end(self, trainer):
        # Wherever it is built, it writes where the test finds it.
        with (HERE / "steps.jsonl").open("a") as file:
            file.write(json.dumps([trainer.progress.step, str(trainer.folder)]) + "\\n")
"""
OFF = '[[hooks]]\npath = "tensorboard"\nenabled = false\n'
SLOW_DATA = ('[dataset]\npath = "parts.Data"', f'{OFF}[dataset]\npath = "parts.SlowData"\nargs.seconds = 0.03')


def hook(name, args=""):
    return "[validate_dataset]", f'{OFF}[[hooks]]\npath = "parts.{name}"\n{args}\n[validate_dataset]'


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path, PARTS)


def profiled(tiny, *changes, **options):
    experiment = Experiment.load(tiny.write(*changes))
    return profile_training(experiment, steps=3, **options)[0]


def never(count):
    raise AssertionError("no other number of workers is to be tried")


def test_a_data_set_that_sleeps_is_the_bottleneck_and_workers_help(tiny, monkeypatch):
    monkeypatch.setattr("audiozen_core.profiling.profile.usable_cpus", lambda: 2)
    experiment = Experiment.load(tiny.write(SLOW_DATA))
    found, trace = profile_training(experiment, steps=3, compare_threads=False)
    assert trace is None
    assert found.share("data") > 0.6
    assert found.seconds > 0.06
    assert (found.steps, found.num_workers, wanted_workers(found)) == (3, 0, 2)
    tried = []

    def trial(count):
        tried.append(profile_training(experiment, steps=3, num_workers=count, compare_threads=False)[0])
        return tried[-1]

    sentence = advice(found, trial)
    assert tried[0].num_workers == 2
    assert sentence.startswith("The network waits for data during ")
    assert "with 2 workers instead of 0 a step was " in sentence
    assert sentence.endswith("set `num_workers = 2` in the `dataloader` of [dataset].")
    assert not (tiny.folder / "exp").exists()


def test_a_slow_hook_is_named_and_the_same_hook_without_the_sleep_is_not(tiny):
    slow = profiled(tiny, hook("Slow", "args.seconds = 0.05"))
    assert slow.share("hook parts.Slow") > 0.6
    assert advice(slow, never).startswith("The hook `parts.Slow` takes ")
    data = ('[dataset]\npath = "parts.Data"', '[dataset]\npath = "parts.SlowData"\nargs.seconds = 0.03')
    quick = profiled(tiny, data, hook("Slow", "args.seconds = 0.0"))
    assert quick.share("data") > 3 * quick.share("hook parts.Slow")
    assert "`parts.Slow`" not in advice(quick, lambda _: None)


def test_hooks_that_leave_the_folder_are_left_out_and_named(tiny):
    found = profiled(tiny, ("[model]", f"{hook('Uploads')[1].removesuffix('[validate_dataset]')}[model]"))
    assert "parts.Uploads" in found.left_out
    assert "parts.Uploads" in left_out_note(found)
    assert "metrics_jsonl" not in found.left_out
    assert {"hook metrics_jsonl", "hook resources", "hook nonfinite"} <= found.parts.keys()


@pytest.mark.parametrize("window", [1, 2])
def test_steps_are_counted_as_they_are_trained(tiny, window):
    changes = ("max_epochs = 2", f"max_epochs = 2\ngradient_accumulation_steps = {window}")
    found = profiled(tiny, changes, hook("Writes"), trace_folder=tiny.folder)
    lines = [json.loads(line) for line in (tiny.folder / "steps.jsonl").read_text().splitlines()]
    # Three steps to warm up, three that are measured, three for the trace. An epoch has three batches.
    assert lines[-1][0] == 9
    assert str(tiny.folder) not in lines[0][1]
    assert found.steps == 3
    # With a window of two, an epoch has steps of four samples and of two. Steps 4, 5 and 6 are measured.
    samples = found.samples_per_second * found.steps * found.seconds
    assert round(samples, 6) == (6 if window == 1 else 2 + 4 + 2)
    assert found.real_time_factor is None
    assert sum(found.parts.values()) == pytest.approx(found.seconds)
    assert found.fastest <= found.seconds * 1.001
    assert found.slowest >= found.seconds * 0.8


def test_the_trace_has_the_parts_and_the_hooks_by_name(tiny, monkeypatch):
    experiment = Experiment.load(tiny.write(hook("Slow", "args.seconds = 0.0")))
    _, file = profile_training(experiment, steps=3, trace_folder=tiny.folder)
    names = [event["name"] for event in json.loads(file.read_text())["traceEvents"]]
    for part in ("data", "transfer", "forward", "backward", "optimizer", "hook parts.Slow", "hook clip_grad_norm"):
        assert names.count(part) >= 3, part
    assert "aten::addmm" in names
    assert not [name for name in names if "audiozen tune" in name]
    # A large one is packed, in the place of the other.
    monkeypatch.setattr(trace_module, "_LARGE", 100)
    _, packed = profile_training(experiment, steps=3, trace_folder=tiny.folder)
    assert packed.name == "trace.json.gz"
    assert "forward" in gzip.decompress(packed.read_bytes()).decode()
    assert not file.exists()


def test_a_training_that_a_hook_stops_can_not_be_measured(tiny):
    with pytest.raises(RunError, match="ended after 5 steps, before all steps were measured: planted"):
        profiled(tiny, hook("Stops"))


def test_several_processes_are_refused(tiny, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name, value in (("RANK", "0"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match="`audiozen profile` needs a single process"):
        profiled(tiny)


BASE = StepProfile(
    device="cpu",
    steps=20,
    seconds=0.1,
    fastest=0.09,
    slowest=0.2,
    parts={"data": 0.001, "forward": 0.04, "backward": 0.054, "optimizer": 0.004, "rest": 0.001},
    samples_per_second=100.0,
    real_time_factor=None,
    num_workers=0,
    cores=8,
    threads=1,
)


def of(**shares):
    """A profile of a step of 0.1 s, most of whose time is where `shares` says."""
    options = {name: shares.pop(name) for name in [*shares] if name in {each.name for each in dataclasses.fields(BASE)}}
    parts = {name.replace("hook_", "hook "): share / 10 for name, share in shares.items()}
    left = 0.1 - sum(parts.values())
    return dataclasses.replace(BASE, parts={"data": 0.0, "forward": left / 2, "backward": left / 2} | parts, **options)


def test_nothing_stands_out_if_the_passes_take_the_time():
    assert advice(BASE, never) == "Nothing stands out: the forward and backward pass takes 94% of a step."


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (of(hook_clip_grad_norm=0.2, optimizer=0.15), "The hook `clip_grad_norm` takes 20% of a step: "),
        (of(optimizer=0.3, hook_ema=0.1), "The optimiser takes 30% of a step: "),
        (of(transfer=0.12), "Moving a batch to the device, and `prepare_batch`, take 12% of a step"),
        (of(outside=0.4), "The time between epochs is 40% of a step"),
        (of(rest=0.4, seconds=0.1), "Checking losses and gradients, and recording values, takes 40% of a step"),
        (
            of(threads=2, thread_seconds={1: 0.05, 2: 0.09}),
            "With 2 threads, the forward and backward pass is slower here than with 1 (90.0 ms instead of 50.0): set "
            "`num_threads = 1`",
        ),
        (
            of(threads=2, thread_seconds={1: 0.05, 2: 0.09}, busy="the machine is busy"),
            "With 2 threads, the forward and backward pass is slower here than with 1 (90.0 ms instead of 50.0; the "
            "machine is busy): ",
        ),
        (
            of(threads=1, thread_seconds={1: 0.09, 2: 0.05, 4: 0.049}),
            "With 2 threads, the forward and backward pass is 1.8 times as fast as with 1: set `num_threads = 2` in "
            "[meta].",
        ),
        # Two threads gain little, so one is left as it is, and two are not blamed either.
        (
            of(threads=1, thread_seconds={1: 0.09, 2: 0.08}),
            "Nothing stands out: the forward and backward pass takes 100",
        ),
        (
            of(threads=2, thread_seconds={1: 0.09, 2: 0.08}),
            "Nothing stands out: the forward and backward pass takes 100",
        ),
    ],
)
def test_the_largest_part_is_named(profile, expected):
    assert advice(profile, never).startswith(expected)


def test_a_short_step_is_said_to_be_short():
    parts = {name: seconds / 100 for name, seconds in of(rest=0.4).parts.items()}
    profile = dataclasses.replace(BASE, seconds=0.001, parts=parts)
    assert "AudioZEN's own work takes 40% of a step, because a step takes only 1.00 ms" in advice(profile, never)


@pytest.mark.parametrize(
    ("workers", "data", "cores", "wanted"),
    [
        (0, 0.6, 8, 2),  # a batch takes 1.5 times as long as the rest of a step
        (0, 0.3, 8, 1),
        (2, 0.5, 8, 4),  # two workers are busy for a whole step, of which the rest is one half
        (2, 0.5, 3, 3),
        (4, 0.5, 2, 4),  # already more than processors
        (2, 1.0, 4, 4),
    ],
)
def test_as_many_workers_are_wanted_as_keep_up(workers, data, cores, wanted):
    profile = dataclasses.replace(of(data=data, cores=cores), num_workers=workers)
    assert wanted_workers(profile) == wanted


def test_what_was_tried_without_success_is_not_advised():
    starved = of(data=0.5, device="cuda")
    same = advice(starved, lambda count: dataclasses.replace(starved, num_workers=count))
    assert same == (
        "The GPU waits for data during 50% of a step, and 1 worker instead of 0 doesn't make a step faster "
        "on 8 processors: make the items cheaper, or shorter."
    )
    assert "training fails with `num_workers = 1`" in advice(starved, lambda count: None)
    full = dataclasses.replace(starved, num_workers=8)
    assert "8 workers already share 8 processors" in advice(full, never)
