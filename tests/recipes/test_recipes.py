"""Every recipe is checked. Some are run on a small amount of data."""

import csv
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiozen_core.experiment.experiment import Experiment
from tests.cli.conftest import audiozen  # noqa: F401 - a fixture

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
# A run of a few items reads only their recordings, instead of decoding the whole corpus.
UNCACHED = [f"--set=+{role}.args.cache_mb=0" for role in ("dataset", "validate_dataset", "test_dataset")]
FILES = sorted(path for path in RECIPES.rglob("*.toml") if "exp" not in path.relative_to(RECIPES).parts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(RECIPES)))
def test_recipe_loads_without_warnings(path):
    experiment = Experiment.load(path, modes=["train", "test"])
    warnings = [finding.message for finding in experiment.warnings]
    # PESQ can be installed only where there is a C compiler.
    without_pesq = [message for message in warnings if find_spec("pesq") or "the metric PESQ needs" not in message]
    assert without_pesq == []


def test_small_denoiser_trains_and_tests_on_its_corpus(tmp_path, audiozen):  # noqa: F811
    outcome = audiozen(
        "run", str(RECIPES / "mini_denoise/sdnn/baseline.toml"), "-M", "train", "test",
        "--set", f"meta.save_dir={tmp_path}",
        "--set", "trainer.args.max_epochs=1",
        "--set", "dataset.args.items_per_epoch=16",
        "--set", "+validate_dataset.args.items_per_epoch=4",
        "--set", "+test_dataset.args.items_per_epoch=4",
        *UNCACHED,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    # PESQ can be installed only where there is a C compiler. The mode `test` goes on without PESQ, and says so.
    assert "PESQ" in (outcome.out if find_spec("pesq") else outcome.err)
    with (next(tmp_path.glob("baseline/test/*/0/scores.csv"))).open() as file:
        assert len(list(csv.DictReader(file))) == 4


@pytest.mark.parametrize("model", ["conv_tasnet", "dprnn"])
def test_small_separator_trains_resumes_and_tests_on_the_corpus(model, tmp_path, audiozen):  # noqa: F811
    small = {
        "conv_tasnet": {"num_filters": 8, "bottleneck": 4, "hidden": 8, "num_layers": 2, "num_repeats": 1},
        "dprnn": {"features": 4, "hidden": 4, "num_blocks": 1},
    }[model]
    arguments = [
        "run", str(RECIPES / f"mini_separate/{model}/baseline.toml"),
        "--set", f"meta.save_dir={tmp_path}",
        "--set", "dataset.args.items_per_epoch=16",
        "--set", "+validate_dataset.args.items_per_epoch=2",
        "--set", "+test_dataset.args.items_per_epoch=2",
        *UNCACHED,
    ]  # fmt: skip
    for name, value in small.items():
        arguments += ["--set", f"model.args.{name}={value}"]
    outcome = audiozen(*arguments, "--set", "trainer.args.max_epochs=1")
    assert outcome.code == 0, outcome.err
    outcome = audiozen(*arguments, "--set", "trainer.args.max_epochs=2", "-M", "train", "test", "--resume")
    assert outcome.code == 0, outcome.err
    assert "resumed" in outcome.err
    assert "SDR" in outcome.out
    with (next(tmp_path.glob("baseline/test/*/0/scores.csv"))).open() as file:
        rows = list(csv.DictReader(file))
    # Only the held-out voices are tested.
    assert {name.split("-")[0] for row in rows for name in row["id"].split("__")} == {"ivrvoice_ru", "june"}
    assert len(list(tmp_path.glob("baseline/test/*/0/audio/*.wav"))) == 2 * 5


def test_voices_and_utterances_of_the_separators_are_in_one_place_each():
    with (RECIPES / "mini_separate/manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    voices = {split: {row["voice"] for row in rows if row["split"] == split} for split in ("train", "validate", "test")}
    assert len({row["file"] for row in rows}) == len(rows) == 212
    assert voices["validate"] == voices["test"]
    assert not voices["train"] & voices["test"]
    assert all((RECIPES / "mini_separate" / row["file"]).is_file() for row in rows)


SHORT = [
    "--set=meta.num_threads=1", "--set=dataset.args.items_per_epoch=2", "--set=dataset.args.clip_seconds=0.5",
    "--set=dataset.dataloader.batch_size=2", "--set=+trainer.args.metrics=['si_sdr']",
    "--set=+validate_dataset.args.items_per_epoch=1", "--set=+test_dataset.args.items_per_epoch=1",
    *UNCACHED,
]  # fmt: skip


@pytest.mark.parametrize("model", ["bsrnn", "crn", "gtcrn", "spiking_fullsubnet"])
def test_recipe_trains_resumes_and_tests_on_its_corpus(tmp_path, audiozen, model):  # noqa: F811
    command = [
        "run",
        str(RECIPES / f"mini_denoise/{model}/baseline.toml"),
        "--set",
        f"meta.save_dir={tmp_path}",
        *SHORT,
    ]
    first = audiozen(*command, "--set=trainer.args.max_epochs=1")
    assert first.code == 0, first.err
    second = audiozen(*command, "--set=trainer.args.max_epochs=2", "--resume", "-M", "train", "test")
    assert second.code == 0, second.err
    assert [path.name for path in sorted(tmp_path.glob("baseline/checkpoints/epoch_*"))] == ["epoch_0001", "epoch_0002"]
    with (next(tmp_path.glob("baseline/test/*/0/scores.csv"))).open() as file:
        assert len(list(csv.DictReader(file))) == 1


@pytest.fixture
def ndns(tmp_path, monkeypatch):
    """Creates a folder with a copy of the recipe, and data in the layout of the challenge's synthesiser."""
    generator = np.random.default_rng(0)
    for part in ("training_set", "validation_set"):
        for kind in ("noisy", "clean", "noise"):
            (tmp_path / "data" / part / kind).mkdir(parents=True)
        for number in range(4):
            clean = 0.1 * np.sin(np.arange(16000) * (0.05 + 0.02 * number))
            noise = 0.05 * generator.standard_normal(16000)
            root = tmp_path / "data" / part
            soundfile.write(root / "clean" / f"clean_fileid_{number}.wav", clean, 16000)
            soundfile.write(root / "noise" / f"noise_fileid_{number}.wav", noise, 16000)
            name = f"book_{number}_chp_1_reader_2_snr{5 + number}_tl-20_fileid_{number}.wav"
            soundfile.write(root / "noisy" / name, clean + noise, 16000)
    source = RECIPES / "intel_ndns_challenge" / "sdnn_delays"
    shutil.copytree(source, tmp_path / "sdnn_delays", ignore=shutil.ignore_patterns("exp", "__pycache__"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DNS_DATA", str(tmp_path / "data"))
    return tmp_path


FEW = [f"--set={role}.dataloader.{key}" for role in ("dataset", "validate_dataset", "test_dataset")
       for key in ("batch_size=2", "num_workers=0")]  # fmt: skip


def test_challenge_baseline_trains_and_tests_on_data_in_its_layout(ndns, audiozen):  # noqa: F811
    outcome = audiozen(
        "run", "sdnn_delays/baseline.toml", "-M", "train", "test", "--set", "trainer.args.max_epochs=1", *FEW
    )
    assert outcome.code == 0, outcome.err
    assert "test/si_snr_noisy=" in outcome.err
    assert (ndns / "sdnn_delays/exp/baseline/baseline.log").exists()


def test_limit_and_offset_select_a_part_of_the_data(ndns, audiozen):  # noqa: F811
    outcome = audiozen(
        "run", "sdnn_delays/baseline.toml", "--set", "trainer.args.max_epochs=1", *FEW,
        "--set", "+dataset.args.limit=2", "--set", "+dataset.args.offset=1",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "steps=1" in outcome.err


SAMPLE = """\
[meta]
save_dir = "sdnn_delays/exp"
seed = 0
use_amp = false
use_deterministic_algorithms = false

[trainer]
path = "trainer.Trainer"
[trainer.args]
max_epoch = 9999
clip_grad_norm_value = 5

[acoustics]
n_fft = 512
win_length = 256
sr = 16000
hop_length = 256

[loss]
path = "audiozen.loss.SoftDTWLoss"
[loss.args]
gamma = 0.1

[optimizer]
path = "torch.optim.RAdam"
[optimizer.args]
lr = 0.01
weight_decay = 1e-5

[model]
path = "model.Model"
[model.args]
threshold = 0.1
tau_grad = 0.1
scale_grad = 0.8
max_delay = 64
out_delay = 0
"""
DATA_AND_SCHEDULER = """
[lr_scheduler]
path = "torch.optim.lr_scheduler.StepLR"
[lr_scheduler.args]
step_size = 100
gamma = 0.5

[dataset]
path = "dns_challenge"
[dataset.args]
root = "${env:DNS_DATA}/training_set"
[dataset.dataloader]
batch_size = 2

[validate_dataset]
path = "dns_challenge"
[validate_dataset.args]
root = "${env:DNS_DATA}/validation_set"
"""


def test_config_with_old_names_trains_and_logs_the_new_names(ndns, audiozen):  # noqa: F811
    (ndns / "sdnn_delays/sample.toml").write_text(SAMPLE + DATA_AND_SCHEDULER)
    outcome = audiozen("run", "sdnn_delays/sample.toml", "--set", "trainer.args.max_epochs=1")
    assert outcome.code == 0, outcome.err
    assert "`max_epoch` is the old name of `max_epochs`" in outcome.err
    assert "`loss` is the old name of `loss_function`" in outcome.err
    assert (ndns / "sdnn_delays/exp/sample/checkpoints/best/model.safetensors").exists()


def test_recipe_model_gives_the_same_output_as_the_installed_model(ndns):
    """The weights of one model can be loaded into the other."""
    import torch

    from audiozen_core.registry.paths import resolve
    from audiozen_core.registry.scope import ImportScope
    from audiozen_plugins.model.sdnn import SDNN

    torch.manual_seed(0)
    with ImportScope.of_file(ndns / "sdnn_delays/baseline.toml"):
        own = resolve("model.Model", section="model").target(max_delay=8, out_delay=2)
    installed = SDNN(max_delay=8, out_delay=2)
    installed.load_state_dict(own.state_dict())
    noisy = torch.rand(2, 257, 20)
    assert torch.equal(own(noisy), installed(noisy))


@pytest.mark.parametrize("name", ["metricgan", "flow"])
def test_small_recipe_trains_resumes_and_tests(name, tmp_path, audiozen):  # noqa: F811
    smaller = {
        "metricgan": ["trainer.args.warmup_epochs=1", "model_g.args={hidden_size = 8}",
                      "loss_function_d.args.replay=4"],
        "flow": ["model.args={channels = 4, levels = 2, blocks = 1}"],
    }  # fmt: skip
    settings = [
        f"meta.save_dir={tmp_path}", "dataset.args.items_per_epoch=8", "dataset.args.clip_seconds=0.6",
        "dataset.dataloader.batch_size=4", "+validate_dataset.args.items_per_epoch=1",
        "+test_dataset.args.items_per_epoch=1", '+trainer.args.metrics=["si_sdr"]', *smaller[name],
    ]  # fmt: skip
    common = [str(RECIPES / f"mini_denoise/{name}/baseline.toml"), *(f"--set={value}" for value in settings), *UNCACHED]
    outcome = audiozen("run", *common, "--set", "trainer.args.max_epochs=1")
    assert outcome.code == 0, outcome.err
    outcome = audiozen("run", *common, "--set", "trainer.args.max_epochs=2", "--resume", "-M", "train", "test")
    assert outcome.code == 0, outcome.err
    assert "epoch 2/2" in outcome.err
    assert "epoch 1/2" not in outcome.err
    with (next(tmp_path.glob("baseline/test/*/0/scores.csv"))).open() as file:
        assert len(list(csv.DictReader(file))) == 1
