"""A training whose validations never have a finite score has no `best`, and says so, and why, at its end."""

from __future__ import annotations

import json
import shutil

import pytest

from audiozen_core.errors import DataError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.testing.tiny import TinyExperiment

NO_BEST = "no validation had a finite score, so the run has no checkpoint `best`"

SILENT = (
    "import torch\n"
    "class Silent(torch.nn.Module):\n"
    "    def __init__(self):\n"
    "        super().__init__()\n"
    "        self.gain = torch.nn.Parameter(torch.ones(1))\n"
    "    def forward(self, x):\n"
    "        return self.gain * x if self.training else 0 * x\n"
)


@pytest.fixture
def silent(tmp_path):
    """An experiment whose network has no output when it is validated."""
    (tmp_path / "silent.py").write_text(SILENT)
    return TinyExperiment(tmp_path).set("model", "silent.Silent")


@pytest.mark.parametrize("modes", [("train", "test"), ("train",)])
def test_validation_set_without_a_pair_that_can_be_rated_is_found_before_the_training(tmp_path, modes, capsys):
    tiny = TinyExperiment(tmp_path)
    shutil.copytree(tmp_path / "clean", tmp_path / "same")
    tiny.set("validate_dataset", noisy_dir=str(tmp_path / "same"))
    with pytest.raises(DataError, match=r"\[validate_dataset\] has no pair that can be rated") as caught:
        tiny.run(*modes)
    assert "clip_0 (noisy equals clean)" in caught.value.notes[0]
    assert "epoch 1" not in capsys.readouterr().err
    (folder,) = (tmp_path / "exp").iterdir()
    assert (folder / "tiny.log").is_file()
    assert not (folder / "checkpoints").exists()


COUNTED = (
    "import random\n"
    "from audiozen_plugins.dataset.noisy_clean_folders import NoisyCleanFolders\n"
    "class Counted(NoisyCleanFolders):\n"
    "    read = []\n"
    "    def __getitem__(self, index):\n"
    "        random.random()\n"
    "        self.read.append(index)\n"
    "        return super().__getitem__(index)\n"
)


@pytest.mark.parametrize(("good", "before"), [(3, [0, 1, 2, 3]), (0, [0])])
def test_look_at_a_validation_set_ends_at_the_first_good_pair_and_changes_no_training(tmp_path, good, before):
    plain = TinyExperiment(tmp_path / "plain").run()
    tiny = TinyExperiment(tmp_path / "mixed")
    shutil.copytree(tmp_path / "mixed/clean", tmp_path / "mixed/same")
    shutil.copy(tmp_path / f"mixed/noisy/clip_{good}.wav", tmp_path / "mixed/same")
    (tmp_path / "mixed/counted.py").write_text(COUNTED)
    folders = {"noisy_dir": str(tmp_path / "mixed/same"), "clean_dir": str(tmp_path / "mixed/clean")}
    tiny.set("validate_dataset", "counted.Counted", **folders)
    checked = Experiment.load(tiny.write())
    checked.run()
    (counted,) = (
        found.target for found in checked.checked.components.values() if found.component.path.endswith("Counted")
    )
    assert counted.read == [*before, *[0, 1, 2, 3] * 2]
    records = [json.loads(line) for line in (checked.folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["train/loss"] for record in records] == plain.metrics("train/loss")


def test_network_without_finite_output_gives_no_best_epoch_and_the_run_says_why(silent, capsys):
    outcome = silent.run("train", "test")  # the test uses the latest checkpoint
    log = capsys.readouterr().err
    last_words = log[log.index("training is over") :]
    assert NO_BEST in last_words
    assert "the network's output has no value for 4 of 4 files" in last_words
    assert "asked_for=latest" in last_words
    assert outcome.checkpoints == ["epoch_0001", "epoch_0002"]
    assert not (outcome.folder / "checkpoints/best").exists()
    assert not outcome.hooks.calls_of("on_best_found")
    assert [path.name for path in (outcome.folder / "test").iterdir()] == ["latest_epoch_0002"]


def test_resumed_run_without_a_finite_score_still_has_no_best_epoch(silent, capsys):
    silent.run()
    capsys.readouterr()
    outcome = silent.set("trainer", max_epochs=3).run(resume=True)
    assert NO_BEST in capsys.readouterr().err
    assert not (outcome.folder / "checkpoints/best").exists()


def test_finite_score_gives_a_best_epoch_and_no_warning(tmp_path, capsys):
    """The negative control."""
    outcome = TinyExperiment(tmp_path).run()
    assert NO_BEST not in capsys.readouterr().err
    assert (outcome.folder / "checkpoints/best").exists()


def test_one_finite_score_among_others_gives_a_best_epoch(tmp_path, capsys):
    (tmp_path / "turns.py").write_text(
        "from audiozen_plugins.trainer.enhancement import EnhancementTrainer\n"
        "class Turns(EnhancementTrainer):\n"
        "    def validation_epoch_end(self, outputs):\n"
        "        result = dict(super().validation_epoch_end(outputs))\n"
        "        return result if self.progress.epoch == 1 else result | {'score': float('nan')}\n"
    )
    outcome = TinyExperiment(tmp_path).set("trainer", "turns.Turns", max_epochs=3, metrics=["si_sdr"]).run()
    log = capsys.readouterr().err
    assert log.count("the score is not finite, so this validation can't be the best") == 2
    assert NO_BEST not in log
    assert (outcome.folder / "checkpoints/best").resolve().name == "epoch_0001"


@pytest.mark.parametrize("same", [False, True])
def test_metric_without_a_value_for_good_pairs_is_a_warning_and_the_files_are_not_blamed(tmp_path, capsys, same):
    """PESQ, for example, has no value for a file without speech. Only degenerate pairs are the fault of the data."""
    (tmp_path / "undefined.py").write_text(
        "class Undefined:\n"
        "    name = label = 'undefined'\n"
        "    unit = ''\n"
        "    higher_is_better = True\n"
        "    sample_rates = None\n"
        "    def __call__(self, estimate, reference, *, sr):\n"
        "        return float('nan')\n"
    )
    tiny = TinyExperiment(tmp_path)
    tiny.set("trainer", score={"path": "undefined.Undefined"}, metrics=["si_sdr", {"path": "undefined.Undefined"}])
    if same:
        shutil.copytree(tmp_path / "clean", tmp_path / "same")
        tiny.set("validate_dataset", noisy_dir=str(tmp_path / "same"))
        with pytest.raises(DataError, match=r"\[validate_dataset\] has no pair that can be rated"):
            tiny.run()
        return
    outcome = tiny.run("train", "test")
    log = capsys.readouterr().err
    warning = "undefined: the metric has no value for any of the 4 noisy files"
    assert [log.count(f"{mode} {warning}") for mode in ("validate", "test")] == [1, 1]
    assert "SI-SDR: the metric has no value" not in log
    assert NO_BEST in log
    assert outcome.checkpoints == ["epoch_0001", "epoch_0002"]
    assert len(outcome.metrics("test/si_sdr")) == 1


@pytest.mark.parametrize(("generator", "warnings"), [("np.random.default_rng()", 1), ("np.random", 0)])
def test_validation_files_that_change_between_epochs_are_a_warning(tmp_path, capsys, generator, warnings):
    """The generators of NumPy itself are the same in each validation, and the noise is, too."""
    (tmp_path / "changing.py").write_text(
        "import numpy as np\n"
        "import torch\n"
        "from audiozen_plugins.dataset.noisy_clean_folders import NoisyCleanFolders\n"
        "class Changing(NoisyCleanFolders):\n"
        "    def __getitem__(self, index):\n"
        "        sample = super().__getitem__(index)\n"
        f"        noise = {generator}.standard_normal(sample['noisy'].shape)\n"
        "        return sample | {'noisy': sample['noisy'] + 0.01 * torch.from_numpy(noise).float()}\n"
    )
    tiny = TinyExperiment(tmp_path).set("trainer", max_epochs=3)
    folders = {name: str(tmp_path / name.removesuffix("_dir")) for name in ("noisy_dir", "clean_dir")}
    tiny.set("validate_dataset", "changing.Changing", **folders).run()
    said = "the noisy files have changed since the first validation, so the scores of two epochs can't be compared"
    assert capsys.readouterr().err.count(said) == warnings
