"""`audiozen replay` and `audiozen run --preview`, as a user calls them."""

import json
import re
import shlex
import shutil

import pytest

from tests.core.replay.waves import TOML, WaveExperiment


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    experiment = WaveExperiment(tmp_path_factory.mktemp("run"))
    return experiment, experiment.write(
        ("log_interval = 1", "log_interval = 1\nnan_in = [2, 1]"), text=TOML, name="broken"
    )


def test_a_nan_is_found_by_pasting_the_command(audiozen, broken):
    experiment, file = broken
    failed = audiozen("run", str(file))
    assert failed.code == 2
    command = shlex.split(failed.err.strip().splitlines()[-1])
    assert command[:2] == ["audiozen", "replay"]
    done = audiozen(*command[1:])
    assert done.code == 0, done.err
    (line,) = [line for line in done.out.splitlines() if "first gradient that is not finite" in line]
    assert line.startswith("[model] last")
    assert "optimiser step 6, trained from epoch_0001" in done.out
    folder = experiment.folder / "exp/broken/replay/epoch_0002_batch_0001"
    assert done.out.rstrip().endswith(f"written to {folder}")
    assert json.loads((folder / "replay.json").read_text())["epoch"] == 2


def test_a_step_by_its_number(audiozen, tiny_run):
    done = audiozen("replay", str(tiny_run), "--at-step", "6", "--step")
    assert done.code == 0, done.err
    assert done.out.startswith(f"epoch 2, batch 1 of {tiny_run}: 2 samples")
    assert re.search(r"^loss +0\.\d+ +as recorded$", done.out, re.MULTILINE)


def test_a_module_that_is_not_called_is_reported(audiozen, tmp_path):
    experiment = WaveExperiment(tmp_path)
    parts = experiment.folder / "parts.py"
    called = "self.last(self.drop(torch.relu(self.first(noisy))))"
    assert called in parts.read_text()
    weights = "self.first.weight, self.first.bias"
    applied = called.replace("self.first(noisy)", f"nn.functional.linear(noisy, {weights})")
    parts.write_text(parts.read_text().replace(called, applied))
    done = audiozen("replay", str(experiment.train(("max_epochs = 3", "max_epochs = 1"))), "--at-step", "1", "--step")
    assert done.code == 0, done.err
    (line,) = [line for line in done.out.splitlines() if "not called: another module uses its weights" in line]
    assert line.startswith("[model] first")


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    return WaveExperiment(tmp_path_factory.mktemp("tiny")).train(("max_epochs = 3", "max_epochs = 2"))


def test_another_loss_is_a_warning(audiozen, tiny_run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_run, copy, symlinks=True)
    metrics = copy / "metrics.jsonl"
    metrics.write_text(re.sub(r'"step/loss": [\d.]+', '"step/loss": 0.5', metrics.read_text()))
    done = audiozen("replay", str(copy), "--at-step", "6", "--step")
    assert done.code == 0
    assert re.search(r"^loss +0\.\d+ +recorded: 0\.5$", done.out, re.MULTILINE)
    assert "warning: the run recorded other values for loss, so its device, versions or data were different" in done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "choose a batch with --epoch and --batch, or an optimiser step with --at-step"),
        (("--epoch", "1"), "choose a batch"),
        (("--epoch", "1", "--batch", "0", "--at-step", "3"), "choose a batch"),
        (("--epoch", "1", "--batch", "0", "--catch-up"), "need --step"),
        (("--epoch", "0", "--batch", "0"), "0 is not in the range"),
        (("--epoch", "1", "--batch", "9"), "0 to 3, so it has no batch 9"),
    ],
)
def test_wrong_options(audiozen, tiny_run, options, said):
    done = audiozen("replay", str(tiny_run), *options)
    assert done.code == 2
    assert said in done.err


def test_the_training_data_is_shown_before_a_run(audiozen, broken):
    experiment, file = broken
    done = audiozen("run", str(file), "--preview", "3", "--set", "meta.id=fresh")
    assert done.code == 0, done.err
    assert done.out.rstrip().endswith(f"written to {experiment.folder}/exp/fresh_preview")
    assert re.search(r"^noisy +3 +0\.030 to 0\.030", done.out, re.MULTILINE)
    assert not (experiment.folder / "exp/fresh").exists()
    assert (
        json.loads((experiment.folder / "exp/fresh_preview/preview.json").read_text())["waves"]["clean"]["count"] == 3
    )


def test_a_preview_takes_no_other_options(audiozen, broken):
    done = audiozen("run", str(broken[1]), "--preview", "3", "--resume")
    assert done.code == 2
    assert "--preview takes one TOML file" in done.err
