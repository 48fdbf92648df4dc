"""The recipes, and `audiozen tune batch_size`, on a GPU. Without one, these tests skip."""

import csv
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import audiozen  # noqa: F401 - a fixture

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SHORT = [
    "--set=meta.device=cuda", "--set=meta.num_threads=1", "--set=dataset.args.items_per_epoch=4",
    "--set=dataset.dataloader.batch_size=2", "--set=+validate_dataset.args.items_per_epoch=1",
    "--set=+test_dataset.args.items_per_epoch=1",
]  # fmt: skip
DENOISERS = ["bsrnn", "crn", "flow", "gtcrn", "metricgan", "sdnn", "spiking_fullsubnet"]
SEPARATORS = ["conv_tasnet", "dprnn"]
NAMES = [f"mini_denoise/{name}" for name in DENOISERS] + [f"mini_separate/{name}" for name in SEPARATORS]


def recipe(name):
    return str(RECIPES / name / "baseline.toml")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("use_amp", [False, True], ids=["float32", "amp"])
def test_recipe_trains_resumes_and_tests_on_a_gpu(name, use_amp, tmp_path, audiozen):  # noqa: F811
    command = ["run", recipe(name), f"--set=meta.save_dir={tmp_path}", *SHORT, "--set=+trainer.args.metrics=['si_sdr']"]
    command += ["--set=meta.use_amp=true"] * use_amp
    first = audiozen(*command, "--set=trainer.args.max_epochs=1")
    assert first.code == 0, first.err
    second = audiozen(*command, "--set=trainer.args.max_epochs=2", "--resume", "-M", "train", "test")
    assert second.code == 0, second.err
    with (next(tmp_path.glob("baseline/test/*/0/scores.csv"))).open() as file:
        assert len(list(csv.DictReader(file))) == 1


def test_a_compiled_model_trains_on_a_gpu(tmp_path, audiozen):  # noqa: F811
    outcome = audiozen(
        "run", recipe("mini_separate/conv_tasnet"), f"--set=meta.save_dir={tmp_path}", *SHORT,
        "--set=model.compile=true", "--set=trainer.args.max_epochs=1",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err


def test_the_batch_size_is_found_by_the_memory_of_the_gpu(tmp_path, audiozen):  # noqa: F811
    # A sample takes about 2 GB.
    outcome = audiozen(
        "tune", "batch_size", recipe("mini_separate/conv_tasnet"), *SHORT[:2], f"--set=meta.save_dir={tmp_path}",
        "--set=model.args.hidden=8192", "--set=dataset.args.items_per_epoch=10000", "--min", "16", "--steps", "1",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "out of memory" in outcome.out + outcome.err
