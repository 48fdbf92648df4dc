"""Every metric: NaN or a clear error for signals that can't be rated, and the properties that it must have."""

from __future__ import annotations

import inspect
import math
import pickle

import pytest
import torch

from audiozen_core.errors import AudioZenError, MissingExtraError
from audiozen_core.registry.index import installed_index
from audiozen_core.scoring.chosen import build_metric
from audiozen_core.scoring.identity import identity_of
from audiozen_core.scoring.metric import needs_of

SR = 16000
# It watches a network, and its value does not depend on the samples.
NAMES = [name for name in installed_index().names("metric") if name != "synaptic_operations"]
NETWORKS = {"aecmos", "dnsmos", "dnsmos_p808", "plcmos", "speaker_similarity", "word_error_rate",
            "word_error_rate_clean"}  # fmt: skip
"""They take a second for each file, so the tests of their values are with their references."""
QUICK = [name for name in NAMES if name not in NETWORKS]
IGNORES_THE_LEVEL = {
    "frequency_weighted_snr",
    "sdr",
    "sdr_improvement",
    "si_sdr",
    "si_sdr_improvement",
    "stoi",
    "estoi",
}
IGNORES_THE_SIGN = {"frequency_weighted_snr", "sdr", "sdr_improvement", "si_sdr", "si_sdr_improvement", "stoi", "estoi",
                    "lsd"}  # fmt: skip
BEST = {
    "cbak": 5, "covl": 5, "csig": 5, "estoi": 1, "frequency_weighted_snr": 35, "lsd": 0, "segmental_snr": 35,
    "stoi": 1, "pesq": 4.64, "pesq_nb": 4.55, "snr": math.inf, "si_sdr": math.inf, "si_sdr_improvement": math.inf,
}  # fmt: skip


def made(name):
    try:
        return build_metric(name)
    except MissingExtraError as missing:
        pytest.skip(missing.message)


def noise(samples, seed=0):
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def speech(seconds=3, sr=SR):
    """Returns a voice of six harmonics that goes on and off."""
    time = torch.arange(int(seconds * sr)) / sr
    voice = sum(torch.sin(2 * math.pi * 140 * k * time + k) / k for k in range(1, 7))
    return 0.1 * voice * (torch.sin(9 * time) > 0) + 1e-4 * noise(len(time), 7)


def value(metric, estimate, clean, *, sr=SR, noisy=None):
    """Computes the metric with all that it needs."""
    noisy = clean + noise(len(clean), 5) if noisy is None else noisy
    given = {"noisy": noisy, "far_end": noise(len(clean), 9), "text": "she had"}
    needs = needs_of(metric)
    keywords = {need: given[need] for need in needs if need != "clean"}
    return metric(estimate, clean if "clean" in needs else None, sr=sr, **keywords)


CLEAN = speech()
NOISY = CLEAN + 0.3 * noise(len(CLEAN), 1)
BROKEN = NOISY.clone()
BROKEN[100] = math.nan
DEGENERATE = {
    "empty": (noise(0), noise(0)),
    "one sample": (noise(1), noise(1, 2)),
    "silent estimate": (torch.zeros(3 * SR), CLEAN),
    "constant estimate": (torch.full((3 * SR,), 0.25), CLEAN),
    "estimate with NaN": (BROKEN, CLEAN),
    "infinite estimate": (NOISY / 0, CLEAN),
}
DEGENERATE_REFERENCE = {
    "silent clean": (NOISY, torch.zeros(3 * SR)),
    "constant clean": (NOISY, torch.full((3 * SR,), 0.25)),
    "clean with NaN": (CLEAN, BROKEN),
}


@pytest.mark.parametrize("name", NAMES)
def test_signal_that_cannot_be_rated_has_no_value(name):
    metric = made(name)
    cases = DEGENERATE | (DEGENERATE_REFERENCE if "clean" in needs_of(metric) else {})
    found = {case: value(metric, *pair, noisy=noise(len(pair[0]), 3)) for case, pair in cases.items()}
    assert {case: number for case, number in found.items() if not math.isnan(number)} == {}


@pytest.mark.parametrize("name", QUICK)
def test_signal_shorter_than_a_window_has_no_value(name):
    """Those of whole files have one from a few samples on."""
    numbers = [value(made(name), noise(samples, 1), noise(samples)) for samples in (2, 50, 300)]
    if name in {"snr", "si_sdr", "si_sdr_improvement"}:
        assert all(map(math.isfinite, numbers[1:]))
    else:
        assert all(map(math.isnan, numbers)), numbers


@pytest.mark.parametrize("name", QUICK)
def test_clipped_signal_has_a_finite_value(name):
    assert math.isfinite(value(made(name), (4 * NOISY).clamp(-0.2, 0.2), CLEAN))


@pytest.mark.parametrize("name", NAMES)
def test_other_rates_are_rated_resampled_on_request_or_refused(name):
    metric = made(name)
    rates = getattr(metric, "sample_rates", None)
    for sr in (8000, 48000):
        clean = speech(sr=sr)
        estimate = clean + 0.3 * noise(len(clean), 1)
        if rates is None or sr in rates:
            assert math.isfinite(value(metric, estimate, clean, sr=sr))
        else:
            with pytest.raises(AudioZenError, match=f"but the audio has {sr} Hz"):
                value(metric, estimate, clean, sr=sr)
        if "resample" in inspect.signature(type(metric)).parameters and name in QUICK:
            resampling = build_metric({"path": name, "args": {"resample": True}})
            assert math.isfinite(value(resampling, estimate, clean, sr=sr))
            assert (resampling.name, resampling.computed_at) == (f"{metric.name}_16k", SR)


@pytest.mark.parametrize("name", QUICK)
def test_level_and_sign_of_the_estimate_count_only_where_they_should(name):
    metric = made(name)
    plain = value(metric, NOISY, CLEAN)
    for changed, ignoring in ((0.5 * NOISY, IGNORES_THE_LEVEL), (-NOISY, IGNORES_THE_SIGN)):
        number = value(metric, changed, CLEAN)
        if name in ignoring:
            assert number == pytest.approx(plain, abs=2e-3)
        elif name in {"snr", "segmental_snr", "lsd", "cbak"}:
            assert number != pytest.approx(plain, abs=1e-2)


@pytest.mark.parametrize("name", sorted(BEST))
def test_equal_signals_have_the_best_value(name):
    assert value(made(name), CLEAN, CLEAN) == pytest.approx(BEST[name], abs=0.01)


@pytest.mark.parametrize("name", QUICK)
def test_more_noise_is_worse(name):
    metric = made(name)
    levels = (3e-4, 1e-3, 3e-3)  # the composite measures are 1 for much noise on this voice
    numbers = [value(metric, CLEAN + level * noise(len(CLEAN), 1), CLEAN) for level in levels]
    assert sorted(set(numbers), reverse=metric.higher_is_better) == numbers


@pytest.mark.parametrize("name", NAMES)
def test_metric_describes_itself_and_can_be_sent_to_another_process(name):
    metric = made(name)
    assert metric.name.startswith(name)
    assert metric.label
    assert metric.unit in ("", "dB")
    copy = pickle.loads(pickle.dumps(metric))  # noqa: S301 - our own
    assert identity_of(copy, SR) == identity_of(metric, SR)
    assert all(len(digest) == 64 for digest in identity_of(metric, SR).weights.values())
    assert bool(identity_of(metric, SR).weights) == (name in NETWORKS)
    if name in QUICK:
        assert value(copy, NOISY, CLEAN) == value(metric, NOISY, CLEAN)
