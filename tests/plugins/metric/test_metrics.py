"""The metrics equal published numbers and the results of their packages, and handle edge cases."""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from audiozen.metric import Dnsmos, Pesq, SiSdr, Stoi
from audiozen_core.audio.files import read_audio
from audiozen_core.errors import DataError, MissingExtraError
from audiozen_core.scoring.chosen import build_metric
from audiozen_core.scoring.metric import Metric
from audiozen_core.scoring.si_sdr import si_sdr
from audiozen_plugins.metric import pesq as pesq_module
from audiozen_plugins.metric.critical_bands import critical_band_filters

SR = 16000
needs_pesq = pytest.mark.skipif(
    importlib.util.find_spec("pesq") is None,
    reason="pesq is not installed: it has no wheels, so pip needs a C compiler for it",
)
CLIPS = ("p232_003", "p232_005", "p232_006", "p232_011", "p232_014",
         "p257_003", "p257_008", "p257_011", "p257_015", "p257_016")  # fmt: skip


def noise(seconds: float, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(int(seconds * SR), generator=torch.Generator().manual_seed(seed))


def bursts(count: int, seed: int = 0) -> torch.Tensor:
    """Returns loud and quiet noise in turns, half a second each. A voice detector takes loud parts for utterances."""
    signal = noise(count, seed)
    return signal * torch.tensor([1.0, 1e-4]).repeat_interleave(SR // 2).repeat(count)


@pytest.fixture
def speech(reference):
    """Reads the noisy and clean waveforms of one clip."""
    folder = reference / "vbdmd"
    return tuple(read_audio(folder / kind / "p257_003.wav", sr=SR) for kind in ("noisy", "clean"))


# ----------------------------------------------------------------------------------------------- against references


@pytest.mark.parametrize("clip", CLIPS)
def test_si_sdr_agrees_with_the_published_numbers(clip, reference):
    noisy, clean = (read_audio(reference / "vbdmd" / kind / f"{clip}.wav", sr=SR) for kind in ("noisy", "clean"))
    published = json.loads((reference / "numbers.json").read_text())["si_sdr_db"][clip]["noisy"]
    assert SiSdr()(noisy, clean, sr=SR) == pytest.approx(published, abs=1e-3)


@needs_pesq
def test_pesq_and_stoi_equal_the_results_of_their_packages(speech):
    import pesq
    import pystoi

    noisy, clean = speech
    arrays = clean.numpy(), noisy.numpy()
    assert Pesq()(noisy, clean, sr=SR) == pesq.pesq(SR, *arrays, "wb")
    assert Pesq("nb")(noisy, clean, sr=SR) == pesq.pesq(SR, *arrays, "nb")
    assert Stoi()(noisy, clean, sr=SR) == pytest.approx(pystoi.stoi(*arrays, SR), abs=1e-6)
    assert Stoi(extended=True)(noisy, clean, sr=SR) == pytest.approx(pystoi.stoi(*arrays, SR, extended=True), abs=1e-6)


@needs_pesq
def test_metrics_except_si_sdr_distinguish_estimate_and_reference(speech):
    noisy, clean = speech
    for metric in (SiSdr(), Pesq(), Stoi()):
        assert metric(noisy, clean, sr=SR) != metric(clean, noisy, sr=SR) or metric.name == "si_sdr"
    assert si_sdr(noisy, clean) == pytest.approx(si_sdr(clean, noisy).item())  # SI-SDR is symmetric


@needs_pesq
def test_cleaner_speech_has_a_higher_score(speech):
    noisy, clean = speech
    cleaner = clean + 0.1 * (noisy - clean)
    for metric in (SiSdr(), Pesq(), Pesq("nb"), Stoi(), Stoi(extended=True)):
        assert metric.higher_is_better
        assert metric(cleaner, clean, sr=SR) > metric(noisy, clean, sr=SR)


# ----------------------------------------------------------------------------------------------- SI-SDR


def test_si_sdr_ignores_scale_sign_and_by_default_an_offset():
    clean, estimate = noise(1), noise(1) + 0.3 * noise(1, seed=1)
    expected = si_sdr(estimate, clean)
    assert si_sdr(-7 * estimate, 0.1 * clean).item() == pytest.approx(expected.item(), abs=1e-6)
    assert si_sdr(estimate + 0.5, clean - 0.2).item() == pytest.approx(expected.item(), abs=1e-4)
    assert si_sdr(estimate + 0.5, clean, zero_mean=False) < expected - 5


def test_si_sdr_is_ten_for_noise_at_ten_decibels():
    clean, other = noise(10).double(), noise(10, seed=1).double()
    clean, other = clean - clean.mean(), other - other.mean()
    other -= (other @ clean) / (clean @ clean) * clean
    other *= (clean.norm() / other.norm()) * 10 ** (-10 / 20)
    assert si_sdr(clean + other, clean).item() == pytest.approx(10, abs=1e-9)


def test_si_sdr_takes_batches():
    estimates, cleans = torch.stack([noise(1, 1), noise(1, 2)]), torch.stack([noise(1, 3), noise(1, 4)])
    expected = [si_sdr(*pair).item() for pair in zip(estimates, cleans, strict=True)]
    assert si_sdr(estimates, cleans).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1 / 3, -1e-6])
def test_si_sdr_is_nan_for_silence_or_a_constant(constant):
    flat = torch.full((SR,), constant)
    assert si_sdr(flat, noise(1)).isnan()
    assert si_sdr(noise(1), flat).isnan()
    assert si_sdr(noise(0), noise(0)).isnan()


def test_si_sdr_is_above_200_for_equal_signals_and_nan_for_nan():
    broken = noise(1)
    broken[5] = math.nan
    assert si_sdr(noise(1), noise(1)).item() > 200
    assert si_sdr(broken, noise(1)).isnan()


def test_si_sdr_with_and_without_the_mean_have_different_names():
    assert (SiSdr().name, SiSdr(zero_mean=False).name) == ("si_sdr", "si_sdr_with_mean")


# ----------------------------------------------------------------------------------------------- STOI


def test_extended_stoi_is_deterministic_and_does_not_change_the_numpy_generator():
    np.random.seed(7)
    expected = np.random.random(3).tolist()
    np.random.seed(7)
    values = {Stoi(extended=True)(bursts(3, 1), bursts(3), sr=SR) for _ in range(3)}
    assert len(values) == 1
    assert np.random.random(3).tolist() == expected


def test_package_itself_changes_the_numpy_generator():
    """Negative control: without our fixed noise, the test above would fail."""
    import pystoi

    np.random.seed(7)
    expected = np.random.random(3).tolist()
    np.random.seed(7)
    pystoi.stoi(bursts(3).numpy(), bursts(3, 1).numpy(), SR, extended=True)
    assert np.random.random(3).tolist() != expected


@pytest.mark.parametrize("seconds", [0, 0.001, 0.0256, 0.03, 0.036, 0.05, 0.2])
def test_stoi_is_nan_for_too_little_speech(seconds):
    for metric in (Stoi(), Stoi(extended=True)):
        assert math.isnan(metric(noise(seconds, 1), noise(seconds), sr=SR))


def test_stoi_is_nan_for_a_silent_reference_or_estimate():
    assert math.isnan(Stoi()(noise(2), torch.zeros(2 * SR), sr=SR))
    assert math.isnan(Stoi()(torch.zeros(2 * SR), noise(2), sr=SR))


@pytest.mark.parametrize("sr", [8000, 11025, 16000, 44100, 48000])
def test_stoi_accepts_any_rate(sr):
    assert 0.5 < Stoi()(noise(6) + 0.3 * noise(6, 1), noise(6), sr=sr) < 1


# ----------------------------------------------------------------------------------------------- PESQ


@needs_pesq
@pytest.mark.parametrize(("mode", "sr"), [("wb", 8000), ("wb", 48000), ("nb", 44100)])
def test_pesq_rejects_other_rates(mode, sr):
    with pytest.raises(DataError, match=f"but the audio has {sr} Hz"):
        Pesq(mode)(noise(1), noise(1), sr=sr)


@needs_pesq
@pytest.mark.parametrize("mode", ["wb", "nb"])
def test_pesq_rates_a_resampled_copy_if_asked(mode, speech):
    from scipy.signal import resample_poly

    noisy, clean = speech
    plain, resampling = Pesq(mode), Pesq(mode, resample=True)
    assert resampling(noisy, clean, sr=SR) == plain(noisy, clean, sr=SR)
    # The clips have nothing above 8 kHz, so at 48 kHz they have the same quality.
    wide = [torch.from_numpy(resample_poly(signal.double().numpy(), 3, 1)).float() for signal in (noisy, clean)]
    assert resampling(*wide, sr=48000) == pytest.approx(plain(noisy, clean, sr=SR), abs=0.02)
    assert resampling.label == f"{plain.label} at 16 kHz"
    assert resampling.name == f"{plain.name}_16k"


@needs_pesq
def test_pesq_says_which_rates_it_takes():
    assert (Pesq().sample_rates, Pesq("nb").sample_rates) == ((16000,), (8000, 16000))
    assert not hasattr(Pesq(resample=True), "sample_rates")


def test_si_sdr_of_a_copy_with_another_gain_is_infinite():
    clean = noise(1)
    for gain in (1.0, 0.3, -7.7, 1e-6):
        assert si_sdr(gain * clean, clean).item() == math.inf
    # An offset is rounded with the samples. Without subtracting the mean, it is an error.
    assert si_sdr(clean + 5.0, clean).item() == math.inf
    assert si_sdr(clean + 5.0, clean, zero_mean=False).item() < 0
    # 16-bit rounding is a real error, and so is any noise above the rounding of float32.
    assert 50 < si_sdr((clean * 32768).round() / 32768, clean).item() < 100
    assert 120 < si_sdr(clean + 1e-6 * noise(1, 1), clean).item() < 130
    assert si_sdr(clean.double() * (1 + 1e-12 * noise(1, 1).double().sign()), clean.double()).item() < 300


@needs_pesq
def test_narrow_band_pesq_accepts_8_khz():
    assert 1 < Pesq("nb")(noise(2) + 0.5 * noise(2, 1), noise(2), sr=8000) < 5


@needs_pesq
@pytest.mark.parametrize(
    ("estimate", "clean"),
    [
        pytest.param(noise(2), torch.zeros(2 * SR), id="silent reference"),
        pytest.param(torch.zeros(2 * SR), noise(2), id="silent estimate"),
        pytest.param(1e-30 * noise(2), noise(2), id="almost silent estimate"),
        pytest.param(noise(0.2), noise(0.2), id="too short"),
        pytest.param(noise(0), noise(0), id="empty"),
        pytest.param(noise(2) / 0, noise(2), id="infinite"),
        pytest.param(torch.full((SR,), math.nan), noise(1), id="not a number"),
    ],
)
def test_pesq_is_nan_without_an_utterance(estimate, clean):
    assert math.isnan(Pesq()(estimate, clean, sr=SR))


@needs_pesq
def test_pesq_of_a_long_file_is_the_same_in_a_child_process(monkeypatch):
    clean, estimate = bursts(21), bursts(21) + 0.2 * noise(21, 1)
    outside = Pesq()(estimate, clean, sr=SR)
    monkeypatch.setattr(pesq_module, "SAFE_SECONDS", 100)
    assert Pesq()(estimate, clean, sr=SR) == outside > 1


@needs_pesq
def test_pesq_is_nan_with_a_warning_if_the_package_crashes(monkeypatch, capsys):
    monkeypatch.setattr(pesq_module, "_CHILD", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert math.isnan(Pesq()(bursts(21), bursts(21), sr=SR))
    assert "more than 50 utterances" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------- all of them

ALL = [
    pytest.param(SiSdr, {}, id="si_sdr"),
    pytest.param(SiSdr, {"zero_mean": False}, id="si_sdr_with_mean"),
    pytest.param(Stoi, {}, id="stoi"),
    pytest.param(Stoi, {"extended": True}, id="estoi"),
    pytest.param(Pesq, {}, id="pesq", marks=needs_pesq),
    pytest.param(Pesq, {"mode": "nb"}, id="pesq_nb", marks=needs_pesq),
]


@pytest.mark.parametrize(("kind", "args"), ALL)
def test_every_metric_has_a_label_and_a_unit_and_can_be_pickled(kind: type[Metric], args: dict[str, Any]):
    metric = kind(**args)
    assert metric.label
    assert metric.unit in ("", "dB")
    copy = pickle.loads(pickle.dumps(metric))  # noqa: S301 - our own
    clean, estimate = bursts(3), bursts(3) + 0.2 * noise(3, 1)
    assert copy(estimate, clean, sr=SR) == metric(estimate, clean, sr=SR)


@pytest.mark.parametrize(("kind", "args"), ALL)
def test_signals_of_different_lengths_are_an_error(kind: type[Metric], args: dict[str, Any]):
    metric = kind(**args)
    with pytest.raises(ValueError, match="the shapes differ"):
        metric(noise(2), noise(1), sr=SR)


@needs_pesq
def test_names_and_labels_of_metrics_are_unique():
    metrics = [kind(**args) for kind, args in (param.values for param in ALL)]
    assert len({metric.name for metric in metrics}) == len({metric.label for metric in metrics}) == len(ALL)


@pytest.mark.parametrize(
    ("kind", "package", "remedy"),
    [
        (
            Pesq,
            "pesq",
            "pip install 'audiozen[pesq]', which needs a C compiler; without one, do without the metric PESQ",
        ),
        (Stoi, "pystoi", "pip install 'audiozen[stoi]'"),
        (Dnsmos, "speechmos", "pip install 'audiozen[dnsmos]'"),
    ],
)
def test_error_for_a_missing_package_names_the_extra_of_this_metric_only(kind, package, remedy, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=f"needs the package `{package}`") as caught:
        kind()
    assert caught.value.remedy == remedy


def test_metric_that_is_not_used_does_not_import_its_package():
    """A training and `audiozen check` build the metrics of the test. STOI alone imports half of SciPy."""
    built = [kind.__name__ for kind, name in ((Stoi, "pystoi"), (Pesq, "pesq")) if importlib.util.find_spec(name)]
    code = f"""
import sys
from audiozen.metric import {", ".join(["SiSdr", *built])}
print([SiSdr(), {", ".join(f"{name}()" for name in built)}])
print([name for name in ("pystoi", "scipy", "pesq") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


class _Distance:
    """A metric that is not a module and holds a network in one of several ways."""

    name, label, unit, higher_is_better = "distance", "distance", "", False

    def __init__(self, hold):
        net = torch.nn.Sequential(torch.nn.BatchNorm1d(1), torch.nn.Dropout(0.5))
        self.held = {
            "attribute": net,
            "containers": {"a": [net]},
            "partial": functools.partial(self._difference, net),
            "closure": lambda *signals: self._difference(net, *signals),
        }[hold]

    def __call__(self, estimate, reference, *, sr):
        held = self.held["a"][0] if isinstance(self.held, dict) else self.held
        if isinstance(held, torch.nn.Module):
            return self._difference(held, estimate, reference)
        return held(estimate, reference)

    @staticmethod
    def _difference(net, *signals):
        first, second = (net(signal[None, None]) for signal in signals)
        return (first - second).abs().mean().item()


@pytest.mark.parametrize("hold", ["attribute", "containers", "partial", "closure"])
def test_network_that_a_metric_holds_anywhere_is_in_evaluation_mode(hold):
    metric, wave = build_metric(_Distance(hold)), noise(0.01)
    assert len({metric(wave, 0.5 * wave, sr=SR) for _ in range(4)}) == 1
    left_alone = _Distance(hold)
    assert len({left_alone(wave, 0.5 * wave, sr=SR) for _ in range(4)}) > 1


def test_filters_that_are_made_in_inference_mode_can_be_used_in_training():
    critical_band_filters.cache_clear()
    with torch.inference_mode():
        filters = critical_band_filters(SR)
    spectrum = torch.ones(filters.shape[1], dtype=filters.dtype, requires_grad=True)
    (filters @ spectrum).sum().backward()
    torch.testing.assert_close(spectrum.grad, filters.sum(0))
