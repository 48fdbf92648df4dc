"""`audiozen tune lr` and `audiozen tune batch_size`, as a user calls them."""

from __future__ import annotations

import csv
import importlib.util
import re

import pytest
import tomli

from audiozen_core.testing.tiny import TinyExperiment
from audiozen_core.tuning import child
from audiozen_core.tuning.batch_sizes import BatchSizeResult

needs_matplotlib = pytest.mark.skipif(not importlib.util.find_spec("matplotlib"), reason="needs audiozen[plot]")


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path)


@pytest.fixture
def lr(audiozen, tiny):
    """Returns a function that runs a short range test."""

    def run(*options):
        return audiozen("tune", "lr", str(tiny.write()), "--min", "1e-4", "--max", "3", "--steps", "30", *options)

    return run


def points_of(path):
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_lr_prints_the_line_to_paste_and_writes_the_points(lr, tiny, tmp_path):
    before = tiny.write().read_bytes()
    done = lr()
    assert done.code == 0, done.out + done.err
    points = points_of(tmp_path / "exp/tiny_tune_lr.csv")
    assert len(points) == 30
    lowest = min(points, key=lambda point: point["smoothed_loss"])["learning_rate"]
    pasted = tomli.loads(done.out[done.out.index("[optimizer.args]") :])
    assert pasted["optimizer"]["args"]["lr"] == pytest.approx(lowest / 10, rel=0.05)
    assert len(re.findall(r"#+ < lowest$", done.out, re.MULTILINE)) == 1
    assert tiny.file.read_bytes() == before
    assert not (tmp_path / "exp/tiny").exists()


def test_lr_says_that_a_scheduler_was_off(lr, tiny):
    assert "[lr_scheduler]" not in lr().out
    tiny.values["lr_scheduler"] = {"path": "noam", "args": {"warmup_steps": 10}}
    assert "[lr_scheduler] was off in the test. Set it up so that its highest rate is the suggested rate" in lr().out


def test_lr_without_matplotlib_says_how_to_get_the_picture(lr, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    done = lr()
    assert done.code == 0, done.out + done.err
    assert "picture: none, because it needs pip install 'audiozen[plot]'" in done.out
    assert [path.name for path in (tmp_path / "exp").iterdir()] == ["tiny_tune_lr.csv"]
    done = lr("-o", str(tmp_path / "curve.png"))
    assert done.code == 2
    assert "needs the package `matplotlib`" in done.err
    assert not (tmp_path / "curve.csv").exists()


@needs_matplotlib
def test_lr_draws_the_same_picture_each_time(lr, tmp_path):
    pictures = []
    for name in ("a", "b"):
        done = lr("-o", str(tmp_path / name / "curve.svg"))
        assert done.code == 0, done.out + done.err
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["curve.csv", "curve.svg"]
        pictures.append((tmp_path / name / "curve.svg").read_text())
    assert pictures[0] == pictures[1]
    for text in ("tiny: learning rate range test", "lowest loss", "suggestion: "):
        assert f"<!-- {text}" in pictures[0]
    assert not (tmp_path / "exp").exists()


@needs_matplotlib
@pytest.mark.parametrize("name", ["curve.gif", "curve", "."])
def test_a_picture_that_can_not_be_written_is_an_error_before_the_test(lr, tmp_path, name):
    done = lr("-o", str(tmp_path / name))
    assert done.code == 2
    assert "does not end in .svg, .png, .pdf" in done.err
    assert not list(tmp_path.glob("*.csv"))


def test_lr_says_why_it_suggests_nothing(lr, tmp_path):
    done = lr("--max", "2e-4")
    assert done.code == 2
    assert "no learning rate can be suggested: the loss" in done.err
    assert "--max" in done.err
    assert "lr = " not in done.out
    assert len(points_of(tmp_path / "exp/tiny_tune_lr.csv")) == 30


GAIN = """
from torch import nn, ones


class Gain(nn.Module):
    domain = "waveform"

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(ones(1))

    def forward(self, noisy):
        return self.gain * noisy
"""


def test_lr_says_why_it_suggests_nothing_if_the_first_step_is_too_large(lr, tiny, tmp_path):
    """The loss after the first step is not finite, so the curve has no points, and the picture is empty."""
    (tmp_path / "gain.py").write_text(GAIN)
    tiny.set("model", "gain.Gain").set("loss_function", "torch.nn.MSELoss").set("optimizer", "torch.optim.SGD")
    done = lr("--min", "1e30", "--max", "1e31")
    assert done.code == 2
    assert "the test has only 0 points, because a loss or a gradient was not finite" in done.err
    assert "lower --min" in done.err
    assert points_of(tmp_path / "exp/tiny_tune_lr.csv") == []


@pytest.mark.parametrize("options", [["--min", "4"], ["--steps", "0"], ["--min", "nan"], ["--set", "+meta.x=1"]])
def test_a_mistake_in_the_options_ends_lr_before_the_test(lr, tmp_path, options):
    done = lr(*options)
    assert done.code == 2
    assert done.err.count("error") == 1, done.err
    assert not (tmp_path / "exp").exists()


def test_batch_size_prints_a_table_and_the_line_to_paste(audiozen, tiny, monkeypatch):
    asked = []

    def measured(file, overrides, size, *, steps, limit):
        asked.append((size, overrides, steps))
        speeds = {1: 10.0, 2: 19.0, 4: 19.5}
        if size > 4:
            return BatchSizeResult(size, fits=False, device="cpu", data_size=40, reason="out of memory")
        return BatchSizeResult(size, True, speeds.get(size, 19.4), size * 2**20, "cpu", 40)

    monkeypatch.setattr(child, "measure_in_child", measured)
    done = audiozen("tune", "batch_size", str(tiny.write()), "--set", "meta.seed=3", "--steps", "2")
    assert done.code == 0, done.out + done.err
    assert [size for size, *_ in asked] == [1, 2, 4, 8, 6, 5]
    assert {(overrides, steps) for _, overrides, steps in asked} == {(("meta.seed=3",), 2)}
    table = [line.split(maxsplit=4) for line in done.out.splitlines()[1:7]]
    assert table[1] == ["2", "19.0", "2", "MiB", "yes"]
    assert [row[0] for row in table] == ["1", "2", "4", "5", "6", "8"]
    assert "no: out of memory" in done.out.splitlines()[6]
    assert "largest that fits: 4\n" in done.out
    pasted = tomli.loads(re.search(r"\[dataset\.dataloader\]\nbatch_size = \d+\n", done.out).group())
    assert pasted == {"dataset": {"dataloader": {"batch_size": 2}}}
    assert "A new batch size needs a new learning rate" in done.out


def test_batch_size_says_which_of_several_data_sets_decides(audiozen, tiny, monkeypatch):
    """Only the `dataloader` of the first one is used, and no header can name it."""
    sizes = {1: 10.0, 2: 20.0}
    monkeypatch.setattr(
        child,
        "measure_in_child",
        lambda file, overrides, size, **_: BatchSizeResult(size, True, sizes[size], 0, "cpu", 40),
    )
    tiny.values["dataset"] = [tiny.values["dataset"], tiny.values["dataset"]]
    done = audiozen("tune", "batch_size", str(tiny.write()), "--max", "2")
    assert done.code == 0, done.err
    assert "fastest, for the `dataloader` of the first [[dataset]]:\n\nbatch_size = 2\n" in done.out
    assert "[dataset.dataloader]" not in done.out


@pytest.mark.parametrize("options", [["--min", "0"], ["--min", "9", "--max", "3"], ["--memory", "1.5"]])
def test_a_mistake_in_the_options_ends_batch_size_before_the_first_process(audiozen, tiny, monkeypatch, options):
    monkeypatch.setattr(child, "run_within", lambda *_: pytest.fail("a process is started"))
    done = audiozen("tune", "batch_size", str(tiny.write()), *options)
    assert done.code == 2
    assert done.err.count("error") == 1, done.err


def test_batch_size_needs_a_single_process(audiozen, tiny, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    done = audiozen("tune", "batch_size", str(tiny.write()))
    assert done.code == 2
    assert "needs a single process" in done.err


@pytest.mark.slow
def test_batch_size_measures_a_real_training(audiozen, tiny, tmp_path):
    done = audiozen("tune", "batch_size", str(tiny.write()), "--min", "3", "--steps", "1")
    assert done.code == 0, done.out + done.err
    assert [line.split()[0] for line in done.out.splitlines()[1:3]] == ["3", "4"]  # there are four clips
    assert not (tmp_path / "exp").exists()
