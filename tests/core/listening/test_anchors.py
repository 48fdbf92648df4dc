"""The low-pass anchors remove what BS.1534-3 says, and nothing else."""

import numpy as np
import pytest

from audiozen_core.errors import RunError
from audiozen_core.listening.anchors import check_anchors, default_anchors, low_pass


@pytest.mark.parametrize("sr", [16000, 44100, 48000])
@pytest.mark.parametrize("cutoff", [3500, 7000])
def test_low_pass_has_the_attenuation_of_bs1534_and_no_delay(sr, cutoff):
    impulse = np.zeros(sr)
    impulse[sr // 2] = 1
    response = low_pass(impulse, sr, cutoff)
    assert len(response) == sr
    assert np.argmax(response) == sr // 2
    np.testing.assert_allclose(response[1:], response[1:][::-1], atol=1e-12)  # linear phase
    gain = 20 * np.log10(np.abs(np.fft.rfft(response)) + 1e-12)  # one bin per hertz
    assert np.abs(gain[: cutoff + 1]).max() < 0.1
    above = gain[cutoff + 500 :]
    assert above.max() < -25
    assert gain[cutoff + 1000 :].max(initial=-99) < -50


def test_negative_control_a_tone_below_passes_and_one_above_does_not():
    times = np.arange(16000) / 16000
    low, high = np.sin(2 * np.pi * 1000 * times), np.sin(2 * np.pi * 5000 * times)
    middle = slice(1000, -1000)
    np.testing.assert_allclose(low_pass(low, 16000, 3500)[middle], low[middle], atol=0.012)
    assert np.abs(low_pass(high, 16000, 3500)[middle]).max() < 0.003


@pytest.mark.parametrize(("name", "sr"), [("lowpass3500", 7000), ("lowpass7000", 14000)])
def test_low_pass_of_audio_without_high_frequencies_is_refused(name, sr):
    with pytest.raises(RunError, match="has no frequencies above"):
        check_anchors([name], noisy=True, reference=True, sr=sr)
    assert check_anchors([name, name], noisy=True, reference=True, sr=sr + 2) == (name,)
    with pytest.raises(ValueError, match="no frequencies above"):
        low_pass(np.zeros(10), sr, int(name.removeprefix("lowpass")))


@pytest.mark.parametrize(
    ("names", "known", "message"),
    [
        (["none", "noisy"], {}, "either give only `none`"),
        (["lowpass"], {}, "choose from noisy, lowpass3500"),
        (["noisy"], {"noisy": False}, "--noisy"),
        (["lowpass3500"], {"reference": False}, "--clean"),
    ],
)
def test_impossible_anchors_are_errors(names, known, message):
    with pytest.raises(RunError) as raised:
        check_anchors(names, **{"noisy": True, "reference": True, "sr": 16000, **known})
    assert message in f"{raised.value.message} {raised.value.remedy}"


def test_default_anchors():
    assert check_anchors(["none"], noisy=True, reference=True, sr=16000) == ()
    assert default_anchors(noisy=True, reference=True, sr=16000) == ("noisy", "lowpass3500")
    assert default_anchors(noisy=True, reference=True, sr=8000) == ("noisy",)
    assert default_anchors(noisy=True, reference=False, sr=16000) == ("noisy",)
    assert default_anchors(noisy=False, reference=True, sr=48000) == ("lowpass3500", "lowpass7000")
