"""The whole pipeline on real clips: which changes of the input must leave the results the same, and which must not.

The clips are speech and noise of the small corpus. Every tolerance is stated where it is used.
"""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

# Other tests cover the same code. Measuring the coverage here too would take longer than the tests themselves.
pytestmark = pytest.mark.no_cover

RATE = 16000
CORPUS = Path(__file__).resolve().parents[2] / "recipes/mini_denoise/corpus"
# Lengths in samples: a multiple of the hop, one sample less than a multiple, and any other number.
LENGTHS = (20480, 16383, 11111)

MODELS = '''\
import torch
from torch import nn


class Identity(nn.Module):
    """Gives back its input."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.gain * x


class Fir(nn.Module):
    """A linear filter that sees 4 samples to each side."""

    def __init__(self):
        super().__init__()
        self.filter = nn.Conv1d(1, 1, 9, padding="same", bias=False)

    def forward(self, x):
        return self.filter(x.unsqueeze(1)).squeeze(1)


class Gate(nn.Module):
    """A network that is not linear: it attenuates what is weak in each frequency."""

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        return x * torch.sigmoid(x - self.level)
'''
TOML = """\
[meta]
save_dir = "exp"
device = "cpu"

[acoustics]
sr = 16000
n_fft = 512
win_length = 512
hop_length = 256

[trainer]
path = "enhancement"
[trainer.args]
domain = "waveform"
metrics = ["si_sdr", "stoi"]

[model]
path = "models.Fir"

[loss_function]
path = "torch.nn.L1Loss"

[test_dataset]
path = "noisy_clean_folders"
[test_dataset.args]
noisy_dir = "clips/noisy"
clean_dir = "clips/clean"

[predict_dataset]
path = "audio_folder"
[predict_dataset.args]
folder = "clips/noisy"

[[hooks]]
path = "tensorboard"
enabled = false
"""


@pytest.fixture(scope="module")
def clips():
    """Three pairs of real speech and speech in real noise at 3 dB, rounded to 16 bits."""
    voices = sorted((CORPUS / "speech").rglob("*.flac"))[:3]
    noises = sorted((CORPUS / "noise").rglob("*.flac"))[:3]
    pairs = []
    for voice, noise, length in zip(voices, noises, LENGTHS, strict=True):
        clean, _ = soundfile.read(voice)
        disturbance, _ = soundfile.read(noise)
        clean, disturbance = (np.resize(signal, length) for signal in (clean, disturbance))
        disturbance *= np.sqrt(np.mean(clean**2) / np.mean(disturbance**2)) * 10 ** (-3 / 20)
        scale = 0.25 / np.abs(clean + disturbance).max()
        pairs.append(tuple(np.round(signal * scale * 32768) / 32768 for signal in (clean + disturbance, clean)))
    return pairs


def write(folder, clips, *, names="abc", suffix="wav", subtype="PCM_16", gain=1.0, clean_gain=None, channels=None):
    levels = {"noisy": gain, "clean": gain if clean_gain is None else clean_gain}
    for name, pair in zip(names, clips, strict=True):
        for (kind, level), signal in zip(levels.items(), pair, strict=True):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            wave = level * signal
            wave = wave if channels is None else np.stack([wave, channels * wave], axis=1)
            soundfile.write(folder / kind / f"{name}.{suffix}", wave, RATE, subtype=subtype)


class Results:
    """The results of a test and a prediction."""

    def __init__(self, folder):
        (self.test,) = (folder / "test").glob("*/0")
        (self.predict,) = (folder / "predict").glob("*/0")
        with (self.test / "scores.csv").open() as file:
            self.rows = {row["id"]: row for row in csv.DictReader(file)}

    def scores(self, state="enhanced", metric="si_sdr"):
        return [float(row[f"{metric}_{state}"]) for _, row in sorted(self.rows.items())]

    def audio(self):
        found = [*self.test.glob("audio/*.wav"), *self.predict.glob("*.wav")]
        return {path.name: path.read_bytes() for path in found}

    def wave(self, name):
        return soundfile.read(self.predict / f"{name}.wav")[0]


@pytest.fixture
def evaluate(tmp_path, monkeypatch, audiozen, clips):
    """Returns a function that writes the clips in some form, and tests and predicts with fixed weights."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models.py").write_text(MODELS)
    (tmp_path / "meta.toml").write_text(TOML)
    generator = torch.Generator().manual_seed(0)
    weights = {
        "Fir": {"filter.weight": torch.randn(1, 1, 9, generator=generator) / 4},
        "Identity": {"gain": torch.ones(1)},
        "Gate": {"level": torch.tensor(0.5)},
    }
    for name, tensors in weights.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
    count = 0

    def call(*changes, model="Fir", **form):
        nonlocal count
        count += 1
        folder = tmp_path / f"clips{count}"
        write(folder, **{"clips": clips, **form})
        assignments = [f"meta.id=run{count}", f"model.path=models.{model}", *changes]
        assignments += [f"test_dataset.args.{part}_dir=clips{count}/{part}" for part in ("noisy", "clean")]
        assignments.append(f"predict_dataset.args.folder=clips{count}/noisy")
        arguments = [part for change in assignments for part in ("--set", change)]
        outcome = audiozen(
            "run", "meta.toml", "-M", "test", "predict", "--ckpt-path", f"{model}.safetensors", *arguments
        )
        assert outcome.code == 0, outcome.err
        return Results(tmp_path / f"exp/run{count}")

    return call


SPECTRA = [(512, 400, 160, "hann"), (1024, 512, 256, "hann"), (512, 512, 511, "rectangular")]
# `test_stft_round_trip.py` shows that every STFT is exact or refused.
MORE_SPECTRA = [(512, 512, 256, "hann"), (512, 512, 128, "hann"), (320, 320, 160, "hann"),
                (512, 512, 128, "rectangular"), (512, 512, 512, "rectangular")]  # fmt: skip


# Complex spectra, and compressed ones.
COMPLEX = [["trainer.args.domain=spectrum"],
           ["trainer.args.domain=spectrum", "+trainer.args.layout=channels_first", "+trainer.args.compression=0.3",
            "+acoustics.window=sqrt_hann", "+acoustics.center=false", "+acoustics.normalized=true"],
           ["trainer.args.domain=magnitude", "+trainer.args.compression=log1p", "+acoustics.center=false"]]  # fmt: skip


@pytest.mark.parametrize(
    "spectrum",
    [None, *SPECTRA, *COMPLEX, *(pytest.param(each, marks=pytest.mark.slow) for each in MORE_SPECTRA)],
    ids=str,
)
def test_identity_has_the_noisy_scores_and_writes_the_input(evaluate, clips, spectrum):
    """The scores are equal to 1e-6 dB (and 1e-6 for STOI), and the 16-bit audio is the same to the last bit."""
    changes = ["trainer.args.domain=waveform"]
    if isinstance(spectrum, list):
        changes = spectrum
    elif spectrum:
        n_fft, win_length, hop_length, window = spectrum
        changes = ["trainer.args.domain=magnitude", f"acoustics.n_fft={n_fft}", f"acoustics.win_length={win_length}",
                   f"acoustics.hop_length={hop_length}", f"+acoustics.window={window}"]  # fmt: skip
    results = evaluate(*changes, model="Identity")
    for metric in ("si_sdr", "stoi"):
        # The CSV has six digits, so a score of 10 dB is rounded to 1e-5.
        assert results.scores(metric=metric) == pytest.approx(results.scores("noisy", metric), abs=1e-5)
    audio = results.audio()
    for name, (noisy, _) in zip("abc", clips, strict=True):
        assert audio[f"{name}_enhanced.wav"] == audio[f"{name}_noisy.wav"] == audio[f"{name}.wav"]
        assert np.array_equal(results.wave(name), noisy)


def test_order_batch_size_workers_and_container_change_nothing(evaluate):
    """Every number and every byte is the same."""
    plain = evaluate()
    batched = [f"+{kind}_dataset.dataloader.batch_size=3" for kind in ("test", "predict")]
    workers = [f"+{kind}_dataset.dataloader.num_workers=2" for kind in ("test", "predict")]
    for results in (evaluate(*batched), evaluate(*batched, *workers), evaluate(suffix="flac")):
        assert results.rows == plain.rows
        assert results.audio() == plain.audio()
    # The same clips under names that sort in the opposite order.
    reverse = evaluate(names="cba", suffix="wav")
    assert reverse.scores()[::-1] == plain.scores()
    assert all(np.array_equal(reverse.wave(other), plain.wave(name)) for name, other in zip("abc", "cba", strict=True))


def test_linear_network_is_indifferent_to_the_gain_of_the_input(evaluate):
    """A gain of 1/2 is exact in float32: the scores are the same, and the audio has half the level, up to one step."""
    plain, half = evaluate(subtype="FLOAT"), evaluate(subtype="FLOAT", gain=0.5)
    assert half.scores() == plain.scores()
    assert half.scores("noisy") == plain.scores("noisy")
    for name in "abc":
        assert np.abs(half.wave(name) - plain.wave(name) / 2).max() <= 1 / 32768
        assert np.abs(half.wave(name) - plain.wave(name)).max() > 0.01
    # A gain of 0.3 is not exact, so the scores may differ by 1e-4 dB.
    assert evaluate(subtype="FLOAT", gain=0.3).scores() == pytest.approx(plain.scores(), abs=1e-4)


def test_gain_of_the_clean_files_alone_changes_no_score_that_ignores_scale(evaluate):
    plain, quiet = evaluate(subtype="FLOAT"), evaluate(subtype="FLOAT", clean_gain=0.5)
    for metric in ("si_sdr", "stoi"):
        assert quiet.scores(metric=metric) == pytest.approx(plain.scores(metric=metric), abs=1e-5)


@pytest.mark.slow
def test_network_that_is_not_linear_hears_the_gain(evaluate):
    """The scores differ by more than 0.1 dB, and those of the noisy files not at all."""
    change = "trainer.args.domain=magnitude"
    plain = evaluate(change, model="Gate", subtype="FLOAT")
    half = evaluate(change, model="Gate", subtype="FLOAT", gain=0.5)
    assert half.scores("noisy") == plain.scores("noisy")
    assert min(abs(a - b) for a, b in zip(half.scores(), plain.scores(), strict=True)) > 0.1


def test_same_signal_on_both_channels_is_the_mono_signal(evaluate):
    plain, both = evaluate(), evaluate(channels=1.0)
    assert both.rows == plain.rows
    assert both.audio() == plain.audio()
    # Negative control: with a silent second channel the level is half.
    one = evaluate(channels=0.0)
    assert all(np.abs(one.wave(name) - plain.wave(name)).max() > 0.01 for name in "abc")


def test_more_noise_lowers_every_score(evaluate, clips):
    worse = [(2 * noisy - clean, clean) for noisy, clean in clips]
    plain, noisier = evaluate(model="Identity"), evaluate(model="Identity", clips=worse)
    for metric in ("si_sdr", "stoi"):
        for state in ("noisy", "enhanced"):
            pairs = zip(noisier.scores(state, metric), plain.scores(state, metric), strict=True)
            assert all(after < before for after, before in pairs)
    for after, before in zip(noisier.scores(), plain.scores(), strict=True):
        assert after == pytest.approx(before - 20 * np.log10(2), abs=0.5)
