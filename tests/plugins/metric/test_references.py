"""Metrics equal the values of other implementations, which benchmarks/metric_references.py has computed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from audiozen_core.audio.files import read_audio
from audiozen_core.errors import MissingExtraError
from audiozen_core.scoring.chosen import build_metric

SR = 16000
VALUES = json.loads(Path(__file__).with_name("references.json").read_text())["values"]
NETWORKS = ("dnsmos", "dnsmos_sig", "dnsmos_bak", "dnsmos_p808", "plcmos", "aecmos_echo", "aecmos_degradation",
            "aecmos_echo_double", "aecmos_degradation_double")  # fmt: skip


def metric(name, **args):
    try:
        return build_metric({"path": name, "args": args})
    except MissingExtraError as missing:
        pytest.skip(missing.message)


def pair(reference, clip):
    return tuple(read_audio(reference / "vbdmd" / kind / f"{clip}.wav", sr=SR) for kind in ("noisy", "clean"))


@pytest.mark.parametrize("name", ["csig", "cbak", "covl", "segmental_snr", "frequency_weighted_snr"])
def test_measures_equal_those_of_the_lineage_that_the_docs_name(name, reference):
    """CMGAN for the composite measures and the segmental SNR, pysepm for the weighted one."""
    measure = metric(name)
    clips = list(VALUES)[:2]
    for clip in clips:
        assert measure(*pair(reference, clip), sr=SR) == pytest.approx(VALUES[clip][name], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["csig", "cbak", "covl", "segmental_snr", "frequency_weighted_snr"])
def test_measures_equal_those_of_the_lineage_for_all_clips(name, reference):
    measure = metric(name)
    assert len(VALUES) == 10
    for clip, values in VALUES.items():
        assert measure(*pair(reference, clip), sr=SR) == pytest.approx(values[name], abs=1e-6)


def test_composite_measures_differ_from_those_of_pysepm_by_what_the_docs_say():
    """Negative control for the tests above, and the figures of docs/metrics.md."""
    means = [
        np.mean([values[name] - values[f"pysepm_{name}"] for values in VALUES.values()])
        for name in ("csig", "cbak", "covl")
    ]
    assert np.round(means, 2).tolist() == [0.09, 0.07, 0.07]


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_give_what_speechmos_gives(name, reference):
    """To the rounding of float32. Its package draws the raters of PLCMOS with the seed 0."""
    clip = next(iter(VALUES))
    noisy, clean = pair(reference, clip)
    aspects = {"dnsmos_sig": "signal", "dnsmos_bak": "background"}
    if name.startswith("aecmos"):
        talk = {"talk": "double"} if name.endswith("_double") else {}
        measure = metric("aecmos", aspect=name.split("_")[1], **talk)
        value = measure(clean, sr=SR, noisy=noisy, far_end=clean.flip(0))
    else:
        measure = metric("dnsmos", aspect=aspects[name]) if name in aspects else metric(name)
        value = measure(noisy, sr=SR)
    assert value == pytest.approx(VALUES[clip][name], abs=2e-6)


def test_improvements_are_differences(reference):
    noisy, clean = pair(reference, "p257_003")
    better = clean + 0.3 * (noisy - clean)
    for name in ("si_sdr", "sdr"):
        plain, improvement = metric(name), metric(f"{name}_improvement")
        gain = plain(better, clean, sr=SR) - plain(noisy, clean, sr=SR)
        assert improvement(better, clean, sr=SR, noisy=noisy) == gain > 5
        assert improvement(noisy, clean, sr=SR, noisy=noisy) == 0


def test_lsd_of_a_level_is_known():
    wave = torch.randn(3 * SR, generator=torch.Generator().manual_seed(0))
    assert metric("lsd")(0.1 * wave, wave, sr=SR) == pytest.approx(2, abs=1e-6)
    # A direct computation with NumPy.
    other = wave + 0.3 * torch.randn(3 * SR, generator=torch.Generator().manual_seed(1))
    frames = []
    for signal in (wave, other):
        padded = np.pad(signal.double().numpy(), 1024, mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2048)[::512]
        spectrum = np.fft.rfft(windows * np.hanning(2049)[:-1])
        frames.append(np.log10(np.maximum(np.abs(spectrum) ** 2, 1e-8)))
    expected = np.sqrt(((frames[0] - frames[1]) ** 2).mean(1)).mean()
    assert metric("lsd")(other, wave, sr=SR) == pytest.approx(expected, abs=1e-9)


@pytest.mark.filterwarnings("ignore:mir_eval.separation")
def test_sdr_equals_that_of_mir_eval(reference):
    separation = pytest.importorskip("mir_eval.separation", reason="mir_eval is not installed")
    noisy, clean = (signal[: 2 * SR].double() for signal in pair(reference, "p257_003"))
    arrays = clean[None].numpy(), noisy[None].numpy()
    expected = separation.bss_eval_sources(*arrays, compute_permutation=False)[0][0]
    assert metric("sdr")(noisy, clean, sr=SR) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "theirs", "args"),
    [
        ("sdr", "SignalDistortionRatio", {}),
        ("si_sdr", "ScaleInvariantSignalDistortionRatio", {"zero_mean": True}),
        ("snr", "SignalNoiseRatio", {}),
    ],
)
def test_ratios_equal_those_of_torchmetrics(name, theirs, args, reference):
    audio = pytest.importorskip("torchmetrics.audio", reason="torchmetrics is not installed")
    noisy, clean = (signal.double() for signal in pair(reference, "p257_003"))
    expected = getattr(audio, theirs)(**args)(noisy, clean).item()
    assert metric(name)(noisy, clean, sr=SR) == pytest.approx(expected, abs=1e-6)
