import csv

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from audiozen.metric import SiSdr
from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import DataError, RunError
from audiozen_core.trainer.components import Components
from audiozen_plugins.dataset.collate import pad_collate
from audiozen_plugins.trainer.enhancement import EnhancementTrainer

RATE = 16000


class Utterances(torch.utils.data.Dataset):
    """Tones of different lengths in noise, at an SNR of 0 or 6 dB."""

    collate_fn = staticmethod(pad_collate)

    def __init__(self, size=4, *, clean=True, ids=None):
        self.size = size
        self.clean = clean
        self.ids = ids or [f"tone_{index}" for index in range(size)]

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        length = 8000 + 1000 * index
        clean = 0.1 * torch.sin(torch.arange(length) * (0.1 + 0.05 * index))
        snr = [0.0, 6.0][index % 2]
        noise = torch.randn(length, generator=generator) * 0.07 * 10 ** (-snr / 20)
        sample = {"id": self.ids[index], "noisy": clean + noise, "sr": RATE}
        return {**sample, "clean": clean, "snr": snr} if self.clean else sample


class Gain(nn.Module):
    """Multiplies by one learned number."""

    def __init__(self, gain=1.0):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))
        self.seen = []

    def forward(self, x):
        self.seen.append(x.shape)
        return self.gain * x


def make(folder, model=None, loss=None, acoustics=None, **args):
    model = model or Gain()
    components = Components(
        {"": model},
        loss_functions={"": loss or nn.L1Loss()},
        optimizers={"": torch.optim.SGD(model.parameters(), lr=0.1)},
        acoustics=acoustics or Acoustics(n_fft=512, win_length=512, hop_length=256),
        folder=folder,
        experiment="tones",
    )
    return EnhancementTrainer(components, **{"metrics": ["si_sdr"], **args})


def loader(batch_size=2, **options):
    return BatchLoader(Utterances(**options), batch_size=batch_size)


def test_a_magnitude_model_that_changes_nothing_returns_the_noisy_wave(tmp_path):
    noisy = torch.randn(2, 8001, generator=torch.Generator().manual_seed(0))
    trainer = make(tmp_path)
    wave, magnitude = trainer.enhance(noisy)
    assert torch.allclose(wave, noisy, atol=1e-5)
    assert magnitude.shape == (2, 257, 32)
    assert trainer.model.seen == [(2, 257, 32)]


def test_add_channel_adds_a_channel_to_the_input_of_a_waveform_model(tmp_path):
    noisy = torch.randn(2, 8000)
    for add_channel, shape in ((False, (2, 8000)), (True, (2, 1, 8000))):
        trainer = make(tmp_path, domain="waveform", add_channel=add_channel)
        wave, magnitude = trainer.enhance(noisy)
        assert trainer.model.seen == [shape]
        assert wave.shape == noisy.shape
        assert magnitude is None


def test_enhance_removes_the_delay_of_a_model(tmp_path):
    class Late(Gain):
        out_delay = 3

        def forward(self, x):
            return nn.functional.pad(x, (3, 0))[..., : x.shape[-1]]

    noisy = torch.randn(1, 8001, generator=torch.Generator().manual_seed(0))
    trainer = make(tmp_path, model=Late())
    wave, magnitude = trainer.enhance(noisy)
    assert torch.allclose(wave, noisy, atol=1e-5)
    # The loss compares frame with frame.
    assert trainer.compare(wave, magnitude, noisy) < 1e-5


SPECTRA = [
    Acoustics(n_fft=512, win_length=512, hop_length=256),
    Acoustics(n_fft=512, win_length=512, hop_length=128),
    Acoustics(n_fft=512, win_length=400, hop_length=160),
    Acoustics(n_fft=320, win_length=320, hop_length=160),
    Acoustics(n_fft=1024, win_length=512, hop_length=256),
    Acoustics(n_fft=512, win_length=512, hop_length=128, window="rectangular"),
    Acoustics(n_fft=512, win_length=512, hop_length=512, window="rectangular"),
    Acoustics(n_fft=512, win_length=512, hop_length=511, window="rectangular"),
]


def speech_in_noise(length):
    file = Utterances()[1]
    return file["noisy"][:length], file["clean"][:length]


@pytest.mark.parametrize("acoustics", SPECTRA, ids=str)
@pytest.mark.parametrize("extra", [0, 1, 100, 255, 510])
def test_identity_of_magnitudes_has_the_noisy_score_and_the_noisy_samples(tmp_path, acoustics, extra):
    """The score is equal to 1e-6 dB, and each sample to a tenth of a step of 16 bits."""
    noisy, clean = speech_in_noise(7665 + extra)  # 15 hops of 511 samples
    wave, _ = make(tmp_path, acoustics=acoustics).enhance(noisy[None])
    score = SiSdr()
    assert score(wave[0].detach(), clean, sr=RATE) == pytest.approx(score(noisy, clean, sr=RATE), abs=1e-6)
    assert (wave[0] - noisy).abs().max() < 0.1 / 32768


def test_change_of_the_magnitude_makes_no_click_at_the_end(tmp_path):
    class Offset(Gain):
        def forward(self, x):
            return x + 0.1

    noisy, _ = speech_in_noise(7679)  # one sample less than 30 hops
    trainer = make(tmp_path, model=Offset())
    change = (trainer.enhance(noisy[None])[0][0] - noisy).abs()
    assert change[-20:].max() <= change[:-20].max()
    # Negative control: without the frame that `Stft` adds, the last samples are divided by almost nothing.
    window = torch.hann_window(trainer.win_length)
    settings = (trainer.n_fft, trainer.hop_length, trainer.win_length, window)
    spectrum = torch.stft(noisy, *settings, return_complex=True)
    plain = torch.istft(trainer.model(spectrum.abs()) * spectrum / spectrum.abs(), *settings, length=len(noisy))
    assert (plain - noisy).abs()[-20:].max() > 20 * change.max()


class Spy(nn.Module):
    """A loss that records the shapes of its inputs."""

    def __init__(self, domain=None):
        super().__init__()
        if domain:
            self.domain = domain

    def forward(self, *signals):
        self.shapes = [tuple(signal.shape) for signal in signals]
        return sum(signal.abs().mean() for signal in signals)


@pytest.mark.parametrize(
    ("loss_domain", "own", "shapes"),
    [
        ("waveform", None, [(2, 8000)] * 2),
        ("magnitude", None, [(2, 257, 32)] * 2),
        ("features", None, [(2, 32, 257)] * 2),
        ("both", None, [(2, 8000)] * 2 + [(2, 257, 32)] * 2),
        (None, "features", [(2, 32, 257)] * 2),
        (None, None, [(2, 257, 32)] * 2),
        ("waveform", "features", [(2, 8000)] * 2),
    ],
)
@pytest.mark.parametrize("domain", ["magnitude", "waveform"])
def test_domain_of_the_loss_comes_from_the_toml_the_loss_or_the_model(tmp_path, domain, loss_domain, own, shapes):
    loss = Spy(own)
    trainer = make(tmp_path, loss=loss, domain=domain, loss_domain=loss_domain)
    noisy = torch.randn(2, 8000)
    trainer.compare(*trainer.enhance(noisy), noisy)
    by_the_model = loss_domain is None and own is None and domain == "waveform"
    assert loss.shapes == ([(2, 8000)] * 2 if by_the_model else shapes)


def test_score_is_the_mean_si_sdr_without_padding(tmp_path):
    trainer = make(tmp_path)
    padded = trainer.validate([loader(batch_size=4)])
    alone = trainer.validate([loader(batch_size=1)])
    assert padded == pytest.approx(alone, abs=1e-3)
    assert 2.5 < alone < 3.5


def test_training_lowers_the_loss(tmp_path):
    trainer = make(tmp_path, model=Gain(3.0), loss_domain="waveform", max_epochs=5)
    trainer.train(loader(), [loader()])
    assert trainer.model.gain < 2.95


def test_test_mode_prints_a_table_and_writes_a_csv_and_the_audio(tmp_path, capsys):
    trainer = make(tmp_path, model=Gain(0.5))
    metrics = trainer.test([loader(size=4)])
    assert metrics["test/si_sdr_gain"] == pytest.approx(0, abs=1e-3)
    shown = capsys.readouterr().out
    assert "SI-SDR" in shown
    assert "enh." in shown
    results = tmp_path / "test" / "epoch_0000" / "0"
    with (results / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [f"tone_{index}" for index in range(4)]
    assert [float(row["snr"]) for row in rows] == [0, 6, 0, 6]
    assert float(rows[0]["si_sdr_noisy"]) == pytest.approx(float(rows[0]["si_sdr_enhanced"]), abs=1e-3)
    for kind in ("noisy", "enhanced", "clean"):
        wave, rate = soundfile.read(results / "audio" / f"tone_1_{kind}.wav")
        assert (len(wave), rate) == (9000, RATE)
        if kind == "enhanced":
            noisy, _ = soundfile.read(results / "audio" / "tone_1_noisy.wav")
            assert np.abs(wave - noisy / 2).max() < 1e-3


def test_a_second_test_starts_a_new_report_and_keeps_the_first(tmp_path):
    trainer = make(tmp_path, save_enhanced=False)
    trainer.test([loader(size=4)])
    trainer.test([loader(size=2)])
    sizes = {path.parts[-3]: len(path.read_text().splitlines()) - 1 for path in tmp_path.rglob("scores.csv")}
    assert sizes == {"epoch_0000": 4, "epoch_0000_2": 2}
    assert not list(tmp_path.rglob("*.wav"))


def test_prediction_needs_no_clean_files_and_keeps_the_lengths(tmp_path):
    make(tmp_path).predict([loader(size=3, clean=False, ids=["a/one", "two", "b/c/three"])])
    results = tmp_path / "predict" / "epoch_0000" / "0"
    written = sorted(path.relative_to(results).as_posix() for path in tmp_path.rglob("*.wav"))
    assert written == ["a/one.wav", "b/c/three.wav", "two.wav"]
    assert soundfile.info(results / "a" / "one.wav").frames == 8000


def test_sample_id_that_points_outside_the_folder_is_rejected(tmp_path):
    with pytest.raises(DataError, match="leads out of"):
        make(tmp_path / "run").predict([loader(size=1, clean=False, ids=["../../etc/passwd"])])
    assert not list(tmp_path.rglob("passwd*"))


def test_metric_with_a_missing_package_is_skipped_with_a_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "pesq", None)
    trainer = make(tmp_path, metrics=["si_sdr", "pesq"])
    assert [metric.name for metric in trainer.metrics] == ["si_sdr"]
    assert "pip install 'audiozen[pesq]', which needs a C compiler" in capsys.readouterr().err


def test_a_metric_can_have_arguments(tmp_path):
    trainer = make(tmp_path, metrics=[{"path": "si_sdr", "args": {"zero_mean": False}}])
    assert trainer.metrics[0].zero_mean is False


def test_stft_that_cannot_be_inverted_is_rejected_before_the_training(tmp_path):
    numbers = {"n_fft": 512, "win_length": 256, "hop_length": 256}
    with pytest.raises(RunError, match=r"the STFT in \[acoustics\] can't be inverted") as error:
        make(tmp_path, acoustics=Acoustics(**numbers))
    assert "rectangular" in error.value.remedy
    make(tmp_path, acoustics=Acoustics(**numbers, window="rectangular"))
    make(tmp_path, acoustics=Acoustics(**numbers), domain="waveform")


def test_check_reports_an_stft_that_cannot_be_inverted_once():
    def found(args, **numbers):
        findings = EnhancementTrainer.check_settings(
            {"metrics": [], **args}, acoustics=Acoustics(**numbers), dataset_names={}
        )
        return [(finding.place, finding.message[:40]) for finding in findings]

    message = "the STFT in [acoustics] can't be inverted"[:40]
    assert found({}, hop_length=512) == [(("path",), message)]
    assert found({"domain": "magnitude"}, hop_length=512) == [(("args", "domain"), message)]
    assert found({"domain": "waveform"}, hop_length=512) == found({}, hop_length=512, window="rectangular") == []
    assert found({}, hop_length=600) == []  # the lengths contradict each other, which is reported in [acoustics]


@pytest.mark.parametrize("mode", ["train", "test"])
def test_error_of_the_network_names_the_samples_of_the_batch_or_the_only_file(tmp_path, mode):
    class FailsForLong(Gain):
        def forward(self, x):
            if x.shape[-1] >= 10_000:
                raise ValueError("too long")
            return super().forward(x)

    trainer = make(tmp_path, FailsForLong(), domain="waveform", max_epochs=1)
    loader = BatchLoader(Utterances(), batch_size=4, shuffle=False)
    with pytest.raises(RunError, match="too long") as caught:
        trainer.train(loader) if mode == "train" else trainer.test([loader])
    named = [note for note in caught.value.notes if note.startswith("samples: ")]
    assert named == ["samples: tone_0, tone_1, tone_2, tone_3" if mode == "train" else "samples: tone_2"]


def test_complex_output_of_the_network_is_called_complex(tmp_path):
    class Complex(Gain):
        def forward(self, magnitude):
            return torch.complex(magnitude, magnitude)

    with pytest.raises(RunError, match=r"returns complex numbers \(torch\.complex64\) \[1, 257, 11\]") as caught:
        make(tmp_path, Complex(), domain="magnitude").enhance(torch.randn(1, 2560))
    assert "expected real numbers [1, 257, 11]" in caught.value.message
    assert "output.abs()" in caught.value.remedy
