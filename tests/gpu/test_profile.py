"""A profile on a GPU: its times are those of the GPU, and measuring makes nothing wait."""

import json

import pytest
import torch

from audiozen_core.experiment.experiment import Experiment
from audiozen_core.profiling.advice import advice
from audiozen_core.profiling.profile import profile_training
from tests.tiny_experiment import TinyExperiment

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

PARTS = """
import json
import time
from pathlib import Path

CYCLES = 40_000_000  # more than 20 ms on any GPU


class Busy(Trainer):
    def training_step(self, batch, batch_idx):
        torch.cuda._sleep(CYCLES)
        return super().training_step(batch, batch_idx)


class SlowData(Data):
    def __init__(self, seconds: float):
        super().__init__()
        self.seconds = seconds

    def __getitem__(self, index):
        time.sleep(self.seconds)
        return super().__getitem__(index)


class Forbids:
    # Makes every wait for the GPU an error while the steps 4 to 8 are measured, and writes the times of the program.
    @hookimpl
    def on_optimizer_step_end(self, trainer, step):
        if step == 4:
            torch.cuda.set_sync_debug_mode("error")
            self.before = trainer.part_seconds
        elif step == 8:
            torch.cuda.set_sync_debug_mode("default")
            seconds = {name: now - self.before[name] for name, now in trainer.part_seconds.items()}
            Path(__file__).with_name("program.json").write_text(json.dumps(seconds))

    @hookimpl
    def on_teardown(self):
        torch.cuda.set_sync_debug_mode("default")
"""
CUDA = ('device = "cpu"', 'device = "cuda"')
HOOK = ("[dataset]", '[[hooks]]\npath = "tensorboard"\nenabled = false\n[[hooks]]\npath = "parts.Forbids"\n[dataset]')
BUSY = ("parts.Trainer", "parts.Busy")
# Epochs end with waiting for the GPU, so all steps that are measured are in one epoch.
ONE_EPOCH = ("max_epochs = 2", "max_epochs = 2\nsteps_per_epoch = 1000")


def slow_data(seconds):
    return 'path = "parts.Data"\ndataloader.batch_size = 2\n[validate_dataset]', (
        f'path = "parts.SlowData"\nargs.seconds = {seconds}\ndataloader.batch_size = 2\n[validate_dataset]'
    )


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path, PARTS)


def profiled(tiny, *changes, **options):
    return profile_training(Experiment.load(tiny.write(CUDA, ONE_EPOCH, *changes)), steps=5, **options)


def test_a_pass_that_only_the_gpu_is_busy_with_takes_the_time_and_nothing_waits(tiny):
    found, file = profiled(tiny, BUSY, HOOK, trace_folder=tiny.folder)
    assert found.device.startswith("cuda")
    assert found.seconds > 0.01
    assert found.share("forward") > 0.6
    # The program does not see it: it waits elsewhere, for the scalar of an earlier step.
    program = json.loads((tiny.folder / "program.json").read_text())
    assert program["forward"] < 0.5 * sum(program.values())
    events = json.loads(file.read_text())["traceEvents"]
    assert {"forward", "hook nonfinite"} <= {event["name"] for event in events}
    assert [event for event in events if event.get("cat") == "kernel"]


def test_a_run_records_what_the_gpu_needs_for_each_part(tiny):
    Experiment.load(tiny.write(CUDA, BUSY, HOOK, ("max_epochs = 2", "max_epochs = 1\nsteps_per_epoch = 20"))).run()
    records = [json.loads(line) for line in (tiny.folder / "exp/tiny/metrics.jsonl").read_text().splitlines()]
    (record,) = [record for record in records if "train/gpu_seconds_forward" in record]
    parts = {name: seconds for name, seconds in record.items() if "gpu_seconds_" in name}
    assert parts.keys() == {
        f"train/gpu_seconds_{part}" for part in ("data", "transfer", "forward", "backward", "optimizer", "rest")
    }
    assert record["train/gpu_seconds_forward"] > 0.6 * sum(parts.values())
    assert record["train/gpu_seconds_forward"] > 0.01


def test_data_that_is_there_before_the_gpu_is_done_costs_nothing(tiny):
    hidden, _ = profiled(tiny, BUSY, slow_data(0.001))
    assert hidden.share("data") < 0.1
    starved, _ = profiled(tiny, slow_data(0.02))
    assert starved.share("data") > 0.6
    assert advice(starved, lambda _: None).startswith("The GPU waits for data during ")
