"""The trainer `separation`: permutations, scores, files, chunks, degenerate mixtures, ranks and resume."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from audiozen.dataset import pad_collate
from audiozen.loss import PitSiSnrLoss, SiSnrMagnitudeLoss, WeightedLoss, WeightedSumLoss
from audiozen.model import DPRNN, ConvTasNet, TFGridNet
from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import ConfigError, DataError, RunError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.scoring.si_sdr import si_sdr
from audiozen_core.testing.tiny import TinyExperiment
from audiozen_core.trainer.components import Components
from audiozen_plugins.trainer.separation import SeparationTrainer
from tests.core.checkpoint.exactness import difference
from tests.on_ranks import all_right, on_ranks

RATE = 16000


class Mixtures(torch.utils.data.Dataset):
    """Two or three tones of different pitch. `changed` maps an index to a function of the list of sources."""

    collate_fn = staticmethod(pad_collate)

    def __init__(self, size=3, *, speakers=2, changed=None):
        self.size, self.speakers, self.changed = size, speakers, changed or {}

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        times = torch.arange((3000, 4100, 2555)[index % 3]) / RATE
        sources = [
            0.1 * torch.sin(2 * math.pi * (300 + 20 * index) * 4**speaker * times) for speaker in range(self.speakers)
        ]
        # The order of the sources is not that of their pitches.
        sources = sources[::-1] if index % 2 else sources
        sources = self.changed[index](sources) if index in self.changed else sources
        named = {f"source_{number}": source for number, source in enumerate(sources, start=1)}
        return {"id": f"m{index}", "noisy": sum(sources), **named, "sr": RATE}


class Bands(nn.Module):
    """Separates frequencies below and above 800 Hz, with some of the other one left in. Its weight has no effect."""

    def __init__(self, order=(0, 1), leak=0.1):
        super().__init__()
        self.order, self.leak = order, leak
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, mixture):
        low = torch.arange(mixture.shape[-1] // 2 + 1) * RATE / mixture.shape[-1] < 800
        spectrum = torch.fft.rfft(mixture)
        bands = [torch.fft.irfft(spectrum * mask, mixture.shape[-1]) for mask in (low, ~low)]
        bands = [bands[0] + self.leak * bands[1], bands[1] + self.leak * bands[0]]
        return self.weight * torch.stack([bands[index] for index in self.order], dim=1)


def make(folder, model, *, loss=None, acoustics=None, **args):
    components = Components(
        {"": model},
        loss_functions={"": loss or PitSiSnrLoss()},
        acoustics=acoustics or Acoustics(n_fft=256, win_length=256, hop_length=128),
        folder=folder,
        dataset_names={},
    )
    return SeparationTrainer(components, **{"domain": "waveform", "metrics": ["si_sdr"], **args})


def loader(batch_size=2, **options):
    return BatchLoader(Mixtures(**options), batch_size=batch_size)


def validated(trainer, *loaders):
    recorded = {}
    trainer.hooks.on_log = lambda metrics, **_: recorded.update(metrics)
    return trainer.validate(loaders), recorded


def results(folder, mode="test"):
    (found,) = (folder / mode).iterdir()
    return found / "0"


def rows_of(folder):
    with (results(folder) / "scores.csv").open() as file:
        return list(csv.DictReader(file))


# ------------------------------------------------------------------------------- permutations and scores


def test_order_of_the_outputs_changes_neither_scores_nor_files(tmp_path):
    for name, order in (("a", (0, 1)), ("b", (1, 0))):
        make(tmp_path / name, Bands(order)).test([loader()])
    assert rows_of(tmp_path / "a") == rows_of(tmp_path / "b")
    for file in (results(tmp_path / "a") / "audio").iterdir():
        assert file.read_bytes() == (results(tmp_path / "b") / "audio" / file.name).read_bytes()
    separated, source = (
        torch.from_numpy(soundfile.read(results(tmp_path / "a") / f"audio/m1_{kind}_1.wav")[0])
        for kind in ("separated", "source")
    )
    assert si_sdr(separated, source) > 15


def test_values_of_a_file_are_means_over_its_speakers_and_the_gain_is_the_improvement(tmp_path):
    make(tmp_path, Bands((1, 0)), metrics=["si_sdr", "sdr"]).test([loader()])
    for index, row in enumerate(rows_of(tmp_path)):
        sample = Mixtures()[index]
        low, high = Bands()(sample["noisy"].unsqueeze(0))[0].detach()
        estimates = [high, low] if index % 2 else [low, high]
        sources = [sample["source_1"], sample["source_2"]]
        after = np.mean([float(si_sdr(one, other)) for one, other in zip(estimates, sources, strict=True)])
        before = np.mean([float(si_sdr(sample["noisy"], source)) for source in sources])
        assert float(row["si_sdr_separated"]) == pytest.approx(after, abs=1e-3)
        assert float(row["si_sdr_mixture"]) == pytest.approx(before, abs=1e-3)
        assert float(row["si_sdr_gain"]) == pytest.approx(after - before, abs=2e-3)
        assert float(row["sdr_gain"]) > 0
    summary = json.loads((results(tmp_path) / "scores.json").read_text())
    assert summary["all"]["si_sdr"]["gain"] == pytest.approx(
        np.mean([float(row["si_sdr_gain"]) for row in rows_of(tmp_path)]), abs=1e-3
    )


def test_improvement_over_the_mixture_equals_the_gain_for_each_speaker(tmp_path):
    make(tmp_path, Bands((1, 0)), metrics=["si_sdr", "si_sdr_improvement", "sdr_improvement"]).test([loader()])
    for row in rows_of(tmp_path):
        assert float(row["si_sdr_improvement_separated"]) == pytest.approx(float(row["si_sdr_gain"]), abs=1e-3)
        assert float(row["si_sdr_improvement_mixture"]) == float(row["sdr_improvement_mixture"]) == 0


def test_score_is_the_mean_improvement(tmp_path):
    score, scalars = validated(make(tmp_path, Bands()), loader())
    assert score == pytest.approx(scalars["validate/si_sdr"] - scalars["validate/si_sdr_mixture"])
    assert score == scalars["validate/si_sdr_gain"] > 15
    assert scalars["validate/loss"] == pytest.approx(-scalars["validate/si_sdr"], abs=0.01)
    assert validated(make(tmp_path, Bands(leak=0.5)), loader())[0] < score - 5


def test_score_does_not_depend_on_the_batch_size(tmp_path):
    scores = [validated(make(tmp_path, Bands()), loader(size))[0] for size in (1, 3)]
    assert scores[0] == scores[1]


def test_prediction_writes_each_speaker_and_needs_no_sources(tmp_path):
    class Recordings(Mixtures):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return {key: sample[key] for key in ("id", "noisy", "sr")}

    make(tmp_path, Bands()).predict([BatchLoader(Recordings(), batch_size=2)])
    files = {file.name: soundfile.read(file, dtype="float32")[0] for file in results(tmp_path, "predict").iterdir()}
    assert sorted(files) == [f"m{index}_{speaker}.wav" for index in range(3) for speaker in (1, 2)]
    expected = Bands()(Mixtures()[1]["noisy"].unsqueeze(0))[0, 1].detach().numpy()
    assert np.array_equal(files["m1_2.wav"], expected)


def test_three_speakers_are_separated(tmp_path):
    class Third(Bands):
        def forward(self, mixture):
            low, high = super().forward(mixture).unbind(1)
            return torch.stack([high, low, high - low.roll(3, -1)], dim=1)

    score, _ = validated(make(tmp_path, Third()), loader(speakers=3))
    assert math.isfinite(score)


def test_loss_of_weighted_parts_is_recorded(tmp_path):
    loss = WeightedSumLoss([WeightedLoss(PitSiSnrLoss(), 0.5)])
    _, scalars = validated(make(tmp_path, Bands(), loss=loss), loader())
    assert scalars["validate/loss/pit_si_snr"] == pytest.approx(2 * scalars["validate/loss"])


# ------------------------------------------------------------------------------- degenerate mixtures and networks


def test_mixture_with_a_silent_speaker_is_left_out_and_named(tmp_path, capsys):
    silent = {1: lambda sources: [sources[0], 0 * sources[1]]}
    score, _ = validated(make(tmp_path, Bands()), loader(changed=silent))
    good = [validated(make(tmp_path, Bands()), loader(3, size=1))[0]]
    assert math.isfinite(score)
    assert "1 file is not in the mean, because the pair has no value: m1 (source is silent)" in capsys.readouterr().err
    assert validated(make(tmp_path, Bands()), loader(size=2, changed=silent))[0] == pytest.approx(good[0])


def test_data_set_without_a_mixture_that_can_be_rated_is_an_error(tmp_path):
    silent = dict.fromkeys(range(3), lambda sources: [sources[0], 0 * sources[1]])
    with pytest.raises(DataError, match="has no pair that can be rated") as error:
        validated(make(tmp_path, Bands()), loader(changed=silent))
    assert "none of whom is silent" in error.value.remedy


def test_network_without_a_value_for_a_file_has_no_score(tmp_path):
    class Silent(Bands):
        def forward(self, mixture):
            separated = super().forward(mixture)
            return separated * 0 if mixture.shape[-1] == 2555 else separated

    trainer = make(tmp_path, Silent())
    assert math.isnan(validated(trainer, loader(1))[0])
    assert "m2 (separated is silent)" in trainer.why_no_score


# ------------------------------------------------------------------------------- domains and shapes


class Twice(nn.Module):
    """Gives back its input for two speakers."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.weight * torch.stack([x, 0.5 * x], dim=1)


@pytest.mark.parametrize(
    "args",
    [
        {"domain": "waveform"},
        {"domain": "magnitude"},
        {"domain": "magnitude", "compression": 0.5},
        {"domain": "spectrum"},
        {"domain": "spectrum", "layout": "channels_first"},
        {"domain": "spectrum", "layout": "channels_last"},
    ],
    ids=lambda args: "-".join(map(str, args.values())),
)
def test_models_of_all_domains_return_one_wave_for_each_speaker(tmp_path, args):
    trainer = make(tmp_path, Twice(), **args)
    noisy = torch.randn(3, 2000, generator=torch.Generator().manual_seed(0))
    waves, _ = trainer.enhance(noisy)
    assert waves.shape == (3, 2, 2000)
    torch.testing.assert_close(waves[:, 0], noisy, atol=1e-4, rtol=1e-4)
    factor = 0.25 if "compression" in args else 0.5
    torch.testing.assert_close(waves[:, 1], factor * noisy, atol=1e-4, rtol=1e-4)


def test_model_with_a_channel_is_possible(tmp_path):
    class Channel(Bands):
        def forward(self, mixture):
            return super().forward(mixture.squeeze(1))

    assert validated(make(tmp_path, Channel(), add_channel=True), loader())[0] > 15


@pytest.mark.parametrize(
    "output", [lambda x: x, lambda x: torch.stack([x, x], 1)[..., 1:], lambda x: torch.stack([x, x])]
)
def test_output_of_another_shape_is_an_error(tmp_path, output):
    class Wrong(Twice):
        def forward(self, x):
            return self.weight * output(x)

    with pytest.raises(RunError, match=r"the model returns torch.float32 .*; expected \[1, speakers, 3000\]"):
        validated(make(tmp_path, Wrong()), loader(1))


def test_another_number_of_speakers_than_the_data_has_is_an_error(tmp_path):
    with pytest.raises(RunError, match="the model separates 2 speakers, but the data set has 3 sources"):
        validated(make(tmp_path, Bands()), loader(speakers=3))


def test_loss_of_another_domain_is_an_error(tmp_path):
    with pytest.raises(RunError, match="compares `magnitude`, but the trainer `separation` compares waveforms"):
        make(tmp_path, Bands(), loss=SiSnrMagnitudeLoss())


@pytest.mark.parametrize("key", ["noisy", "source_1", "id"])
def test_batch_without_a_signal_is_an_error_that_names_it(tmp_path, key):
    batch = pad_collate([Mixtures()[0], Mixtures()[1]])
    del batch[key]
    with pytest.raises(DataError, match=f"the batch has no `{key}`"):
        make(tmp_path, Bands()).prepare_batch(batch, "test")


def test_score_that_is_better_when_lower_is_an_error(tmp_path):
    with pytest.raises(RunError, match="an improvement, which is better when higher"):
        make(tmp_path, Bands(), save_max_score=False)


NETWORKS = {
    "conv_tasnet": lambda: ConvTasNet(
        num_filters=32, kernel_size=32, bottleneck=16, hidden=16, num_layers=3, num_repeats=1
    ),
    "dprnn": lambda: DPRNN(num_filters=32, kernel_size=32, features=8, hidden=8, num_blocks=1, chunk_size=20),
    "tf_gridnet": lambda: TFGridNet(num_freqs=33, features=8, num_blocks=1, hidden=8, num_heads=2, head_features=1),
}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_network_learns_to_separate_in_a_few_steps(tmp_path, name):
    torch.manual_seed(0)
    model = NETWORKS[name]()
    trainer = make(tmp_path, model, domain=None, acoustics=Acoustics(n_fft=64, win_length=64, hop_length=32))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batch = trainer.prepare_batch(pad_collate([Mixtures()[0], Mixtures()[1]]), "train")
    batch = {key: value[..., :1600] if key in ("noisy", "source") else value for key, value in batch.items()}
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = trainer.training_step(batch, 0)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # The mixture itself has about 0 dB for each speaker.
    assert losses[-1] < min(losses[0], 0) - 5


# ------------------------------------------------------------------------------- long files


class Fickle(Bands):
    """Returns the speakers in an order that depends on the first sample."""

    def forward(self, mixture):
        separated = super().forward(mixture)
        return separated.flip(1) if mixture[0, 0] > 0 else separated


def test_chunks_of_a_long_file_have_the_speakers_in_the_same_order(tmp_path):
    time = torch.arange(40000) / RATE
    noise = torch.randn(40000, generator=torch.Generator().manual_seed(0))
    # Two bands, each with a level of its own that changes.
    low, high = Bands(leak=0.0)(noise.unsqueeze(0))[0].detach()
    sources = torch.stack([low * (1.2 + torch.sin(3 * time)), 0.5 * high * (1.2 + torch.cos(5 * time))])
    trainer = make(tmp_path, Fickle(), chunk_seconds=0.5, overlap_seconds=0.12)
    file = {"noisy": sources.sum(0, keepdim=True), "id": ["long"], "source": sources.unsqueeze(0)}
    aligned, _ = trainer.enhance_file(file)
    assert trainer.signals(file, aligned)["separated"].shape == (2, 40000)
    scores = si_sdr(trainer.signals(file, aligned)["separated"], sources)
    assert scores.min() > 12
    trainer.align = lambda earlier, later: later
    mixed_up, _ = trainer.enhance_file(file)
    assert si_sdr(trainer.signals(file, mixed_up)["separated"], sources).min() < 8


# ------------------------------------------------------------------------------- whole experiments


def experiment(folder, **trainer):
    """Returns an experiment with seven mixtures of three speakers, and a small DPRNN."""
    tiny = TinyExperiment(folder)
    generator = np.random.default_rng(0)
    for speaker in range(3):
        for number in range(2):
            path = folder / f"speech/{speaker}/{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            wave = 0.1 * generator.standard_normal(3000) * np.sin(np.arange(3000) * (0.01 + 0.02 * speaker))
            soundfile.write(path, wave, RATE)
    tiny.set("trainer", "separation", max_epochs=2, metrics=["si_sdr"], **trainer)
    small = {"num_filters": 8, "kernel_size": 16, "features": 4, "hidden": 4, "num_blocks": 1, "chunk_size": 20}
    tiny.set("model", "dprnn", **small)
    tiny.set("loss_function", "pit_si_snr")
    speech = {"speech_dir": str(folder / "speech"), "items_per_epoch": 7}
    tiny.set("dataset", "speaker_mix", **speech, clip_seconds=0.1)
    for role in ("validate_dataset", "test_dataset"):
        tiny.set(role, "speaker_mix", **speech, fixed=True, length="max")
        tiny.values[role].setdefault("dataloader", {})["batch_size"] = 2
    return tiny


def test_experiment_trains_tests_and_predicts(tmp_path):
    outcome = experiment(tmp_path).run("train", "test", "predict")
    assert len(outcome.metrics("train/loss")) == 2
    assert len(outcome.metrics("validate/score")) == 2
    assert len(list((results(outcome.folder) / "audio").glob("*.wav"))) == 7 * 5
    assert len(list(results(outcome.folder, "predict").glob("clip_?_?.wav"))) == 8


def test_fewer_speakers_than_asked_are_an_error_before_anything_is_written(tmp_path):
    tiny = experiment(tmp_path).set("dataset", num_speakers=4)
    with pytest.raises(DataError, match="has speech of 3 speakers"):
        tiny.run()
    assert not (tmp_path / "exp").exists()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("model", "the model is for 3 speakers, but [dataset] is for 2"),
        ("validate_dataset", "the model is for 2 speakers, but [validate_dataset] is for 3"),
        ("test_dataset", "the model is for 2 speakers, but [test_dataset] is for 3"),
    ],
)
def test_other_number_of_speakers_is_an_error_before_anything_is_written(tmp_path, section, message):
    tiny = experiment(tmp_path).set(section, num_speakers=3)
    with pytest.raises(RunError, match=re.escape(message)):
        tiny.run("train", "test")
    assert not (tmp_path / "exp").exists()


def test_numbers_of_speakers_that_agree_are_fine(tmp_path):
    tiny = experiment(tmp_path).set("trainer", max_epochs=1)
    for section in ("model", "dataset", "validate_dataset", "test_dataset"):
        tiny.set(section, num_speakers=3)
    tiny.run("train", "test")


def test_network_of_spectra_trains_by_its_name(tmp_path):
    tiny = experiment(tmp_path).set("trainer", max_epochs=1)
    small = {"features": 4, "num_blocks": 1, "hidden": 4, "num_heads": 2, "head_features": 1}
    (loss,) = tiny.set("model", "tf_gridnet", num_freqs=65, **small).run().metrics("train/loss")
    assert math.isfinite(loss)


def test_resumed_run_equals_one_that_was_not_stopped(tmp_path):
    tiny = experiment(tmp_path, save_ckpt_interval_steps=1, max_num_checkpoints=100)
    tiny.run()
    checkpoints = tmp_path / "exp/tiny/checkpoints"
    whole = CheckpointStore(checkpoints).load("latest").state
    within_epoch = checkpoints / "epoch_0002_step_0000006"
    tiny.run(resume=True, ckpt_path=str(within_epoch))
    resumed = CheckpointStore(checkpoints).load("latest").state
    for owner in ("model", "optimizer", "rng"):
        assert difference(whole[owner], resumed[owner]) is None
    assert difference(whole["model"], CheckpointStore(checkpoints).load(within_epoch).state["model"])


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.mark.slow
def test_two_ranks_evaluate_and_train_what_one_process_does(tmp_path):
    weights = {}
    for name, size in (("one", 4), ("two", 2)):
        (tmp_path / name).mkdir()
        tiny = experiment(tmp_path / name)
        tiny.set("trainer", max_epochs=1).set("optimizer", "torch.optim.SGD", lr=0.01)
        tiny.values["dataset"]["dataloader"]["batch_size"] = size
        tiny.values["distributed"] = {"timeout": 60.0}
        if name == "one":
            tiny.run()
        else:
            all_right(on_ranks(2, lambda rank, tiny=tiny: tiny.run() and None))
        weights[name] = CheckpointStore(tmp_path / name / "exp/tiny/checkpoints").load("latest").state["model"]
    for key, value in weights["one"].items():
        torch.testing.assert_close(weights["two"][key], value, rtol=0, atol=1e-6)

    run, tiny = tmp_path / "one/exp/tiny", experiment(tmp_path / "one")
    tiny.set("trainer", max_epochs=1).set("optimizer", "torch.optim.SGD", lr=0.01)
    tiny.values["dataset"]["dataloader"]["batch_size"] = 4
    tiny.values["distributed"] = {"timeout": 60.0}
    shutil.copytree(run, tmp_path / "kept")
    tiny.run("test", "predict")
    expected = {mode: contents(run / mode) for mode in ("test", "predict")}
    shutil.rmtree(run)
    shutil.copytree(tmp_path / "kept", run)
    all_right(on_ranks(2, lambda rank: tiny.run("test", "predict") and None))
    assert {mode: contents(run / mode) for mode in ("test", "predict")} == expected
    assert len(expected["test"]) == 7 * 5 + 3  # the audio of five mixtures, and three files of scores


def test_check_finds_a_metric_that_is_listed_twice_and_a_wrong_direction(tmp_path):
    tiny = experiment(tmp_path, save_max_score=False)
    tiny.values["trainer"]["args"]["metrics"] = ["sdr", "sdr"]
    with pytest.raises(ConfigError) as error:
        Experiment.load(tiny.write(), modes=["train"])
    text = " ".join(finding.message for finding in error.value.diagnostics)
    assert "listed twice" in text
    assert "better when higher" in text
