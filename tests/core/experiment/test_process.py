"""The settings of the process that an experiment makes."""

import subprocess
import sys

import pytest
import torch

from audiozen_core.config.sections import Meta
from audiozen_core.experiment.process import prepare_process, set_deterministic


@pytest.fixture(autouse=True)
def _kept():
    before = torch.get_deterministic_debug_mode(), torch.backends.cudnn.deterministic
    threads, generator = torch.get_num_threads(), torch.get_rng_state()
    yield
    torch.set_deterministic_debug_mode(before[0])
    torch.backends.cudnn.deterministic = before[1]
    torch.set_num_threads(threads)
    torch.set_rng_state(generator)


@pytest.mark.parametrize("before", ["default", "warn", "error"])
@pytest.mark.parametrize("wanted", [False, True])
def test_algorithms_are_deterministic_if_the_experiment_says_so_whatever_they_were(monkeypatch, before, wanted):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_deterministic_debug_mode(before)
    prepare_process(Meta(save_dir="exp", device="cpu", use_deterministic_algorithms=wanted))
    assert torch.get_deterministic_debug_mode() == (2 if wanted else 0)
    set_deterministic(not wanted)
    assert torch.are_deterministic_algorithms_enabled() is not wanted


def test_logs_and_progress_bars_leave_the_seeded_numbers_alone():
    script = """
import random, sys
from audiozen_core.experiment.process import seed_generators
if "seeded" in sys.argv:
    seed_generators(0)
before = random.getstate()
import rich.progress
from audiozen_core.logging import get_logger
get_logger().warning("the first line")
print(random.getstate() == before)
"""
    outputs = [
        subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True, text=True).stdout
        for arguments in ([], ["seeded"])
    ]
    # Without a seed the import draws a number, so the test sees what it guards against.
    assert [output.splitlines()[-1] for output in outputs] == ["False", "True"]
