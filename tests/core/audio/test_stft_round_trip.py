"""The round trip of every STFT that is accepted returns each sample of a wave to 1e-6, whatever its length is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiozen_core.audio.acoustics import WINDOWS, Acoustics, window_error
from audiozen_core.audio.stft import Stft
from audiozen_core.errors import RunError

ARGS = {"gaussian": {"std": 80.0}, "exponential": {"tau": 90.0}, "general_cosine": {"a": [0.5, 0.5]}}


def wave_of(length, seed=0):
    return 2 * torch.rand(2, length, generator=torch.Generator().manual_seed(seed)) - 1


def error_of(stft, length, seed=0):
    wave = wave_of(length, seed)
    back = stft.inverse(stft.transform(wave), length=length)
    assert back.shape == wave.shape
    return float((back - wave).abs().max())


def window_of(**settings):
    return Stft(Acoustics(**settings))._window(torch.device("cpu"), torch.float64)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("center", [True, False])
def test_round_trip_of_every_window_is_exact_at_each_length(window, center):
    for n_fft, win_length, hop in ((320, 320, 80), (400, 256, 64), (257, 257, 64)):
        stft = Stft(
            Acoustics(
                n_fft=n_fft, win_length=win_length, hop_length=hop, window=window, window_args=ARGS.get(window, {}),
                center=center, normalized=center,
            )
        )  # fmt: skip
        assert stft.invertible
        for length in (n_fft // 2 + 1, n_fft, 5 * hop, *range(999, 999 + hop, 7)):
            assert error_of(stft, length) < 1e-6, (n_fft, length)


ACOUSTICS = st.builds(
    lambda window, half, share, hop, center, pad_mode, normalized: Acoustics(
        n_fft=half,
        win_length=max(2, round(half * share)),
        hop_length=max(1, round(half * share * hop)),
        window=window,
        window_args=ARGS.get(window, {}),
        center=center,
        pad_mode=pad_mode,
        normalized=normalized,
    ),
    st.sampled_from(sorted(WINDOWS)),
    st.integers(8, 700),
    st.floats(0.3, 1.0),
    st.floats(0.1, 1.0),
    st.booleans(),
    st.sampled_from(["reflect", "constant"]),
    st.booleans(),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(ACOUSTICS, st.integers(0, 1000))
def test_every_stft_is_exact_or_refused(acoustics, extra):
    if acoustics.hop_length > acoustics.win_length or not Stft(acoustics).invertible:
        return
    assert error_of(Stft(acoustics), acoustics.n_fft // 2 + 1 + extra) < 1e-6, acoustics


def test_an_stft_that_is_refused_is_not_exact():
    """Negative control: the test above would see an inverse that is not exact."""
    stft = Stft(Acoustics(n_fft=512, win_length=512, hop_length=440, window="nuttall"))
    assert not stft.invertible
    assert error_of(stft, 4400) > 1e-6


def test_a_window_that_is_almost_zero_in_its_middle_is_refused_with_center():
    """The first sample has only the middle of the first frame. Without `center` it has other frames, too."""
    odd = {"n_fft": 320, "win_length": 319, "hop_length": 160, "window": "general_cosine"}
    args = {"a": [0.3, -0.9]}
    centred, other = (Stft(Acoustics(**odd, window_args=args, center=center)) for center in (True, False))
    assert not centred.invertible
    assert max(error_of(centred, length) for length in range(900, 960)) > 1e-6
    assert other.invertible
    assert max(error_of(other, length) for length in range(900, 960)) < 1e-6
    assert Stft(Acoustics(**odd, window_args={"a": [0.3, 0.2]})).invertible


def test_windows_are_all_those_of_torch_and_two_of_our_own():
    theirs = set(torch.signal.windows.__all__)
    assert theirs == WINDOWS.keys() - {"rectangular", "sqrt_hann"}


def test_windows_are_periodic_and_follow_their_formulas():
    steps = 2 * np.pi * np.arange(64) / 64
    formulas = {
        "hann": 0.5 - 0.5 * np.cos(steps),
        "sqrt_hann": np.sin(steps / 2),
        "rectangular": np.ones(64),
        "hamming": 0.54 - 0.46 * np.cos(steps),
        "blackman": 0.42 - 0.5 * np.cos(steps) + 0.08 * np.cos(2 * steps),
        "cosine": np.sin((np.arange(64) + 0.5) * np.pi / 65),
    }
    for name, expected in formulas.items():
        assert np.allclose(window_of(win_length=64, window=name), expected, atol=1e-7), name
    std = window_of(win_length=64, window="gaussian", window_args={"std": 9.0})
    assert np.allclose(std, np.exp(-0.5 * ((np.arange(64) - 32) / 9) ** 2), atol=1e-7)
    kaiser = window_of(win_length=64, window="kaiser", window_args={"beta": 5.0})
    assert np.allclose(kaiser, np.kaiser(65, 5.0)[:-1], atol=1e-6)


@pytest.mark.parametrize(
    ("window", "args", "message"),
    [
        ("gaussian", {}, "needs `std`"),
        ("exponential", {}, "needs `tau`"),
        ("general_cosine", {}, "needs `a`"),
        ("general_cosine", {"a": 0.5}, "an array of numbers"),
        ("hann", {"beta": 1.0}, "has no parameter `beta`"),
        ("kaiser", {"beta": 0}, "a number above 0"),
        ("kaiser", {"beta": math.inf}, "a number above 0"),
        ("kaiser", {"beta": True}, "a number above 0"),
        ("triangle", {}, "is unknown"),
    ],
)
def test_window_with_wrong_parameters_is_an_error(window, args, message):
    assert message in (window_error(window, args) or "")
    with pytest.raises(RunError, match=r"window"):
        Stft(Acoustics(window=window, window_args=args))


@pytest.mark.parametrize(("win_length", "hop"), [(512, 128), (512, 256), (400, 100), (512, 170)])
def test_frames_without_center_are_those_of_torch_after_the_leading_ones(win_length, hop):
    stft = Stft(Acoustics(n_fft=512, win_length=win_length, hop_length=hop, center=False))
    wave = wave_of(4000)
    window = torch.hann_window(win_length)
    theirs = torch.stft(wave, 512, hop, win_length, window, center=False, return_complex=True)
    first = stft.leading_frames
    ours = stft.transform(wave)
    assert torch.equal(ours[..., first : first + theirs.shape[-1]], theirs)
    assert ours.shape[-1] > first + theirs.shape[-1]


def test_wave_without_center_may_be_as_short_as_one_sample():
    stft = Stft(Acoustics(n_fft=512, win_length=512, hop_length=128, center=False))
    for length in (1, 2, 127, 128, 129, 300):
        assert error_of(stft, length) < 1e-6
    with pytest.raises(RunError, match="0 samples are too few"):
        stft.transform(torch.zeros(1, 0))


def test_pad_mode_constant_puts_zeros_around_the_wave():
    wave, plain = wave_of(4000), {"hop_length": 128, "window": torch.hann_window(512), "return_complex": True}
    stft = Stft(Acoustics(hop_length=128, pad_mode="constant"))
    torch.testing.assert_close(stft.transform(wave), torch.stft(wave, 512, pad_mode="constant", **plain))
    assert not torch.allclose(stft.transform(wave), torch.stft(wave, 512, **plain))
    for length in (1, 127, 256, 999):
        assert error_of(stft, length) < 1e-6


def test_normalized_divides_by_the_root_of_the_fft_size():
    wave = wave_of(4000)
    plain, divided = (Stft(Acoustics(normalized=choice)).transform(wave) for choice in (False, True))
    assert torch.allclose(divided * math.sqrt(512), plain, atol=1e-4)


@pytest.mark.parametrize("center", [True, False])
def test_change_of_the_spectrogram_makes_no_click_at_an_end(center):
    for window, hop in (("hann", 256), ("sqrt_hann", 256), ("kaiser", 256), ("hamming", 300)):
        stft = Stft(Acoustics(hop_length=hop, window=window, center=center))
        generator = torch.Generator().manual_seed(1)
        for length in range(4000, 4000 + hop, 31):
            spectrogram = stft.transform(wave_of(length))
            change = torch.randn(spectrogram.shape, generator=generator, dtype=torch.complex64)
            changed = stft.inverse(change, length=length).abs()
            assert changed.max() < 2.5 * changed[..., 512:-512].max(), (window, length)


def test_more_samples_than_the_frames_contain_are_refused():
    stft = Stft(Acoustics(n_fft=16, win_length=16, hop_length=8))
    spectrogram = stft.transform(torch.randn(100))
    assert stft.inverse(spectrogram, length=100).shape == (100,)
    with pytest.raises(RunError, match="100 samples are needed, but 6 frames contain only 48"):
        stft.inverse(spectrogram[..., :6], length=100)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize(("n_fft", "win_length", "hop"), [(512, 512, 256), (512, 400, 100), (96, 96, 96), (65, 60, 20)])
@pytest.mark.parametrize("frames", [1, 2, 5, 6, 7, 40])
def test_inverse_is_the_plain_overlap_add_to_the_last_bit(n_fft, win_length, hop, center, frames):
    stft = Stft(Acoustics(n_fft=n_fft, win_length=win_length, hop_length=hop, center=center, window="hamming"))
    generator = torch.Generator().manual_seed(frames)
    spectrum = torch.randn(2, n_fft // 2 + 1, frames, dtype=torch.complex64, generator=generator)
    before = (n_fft - win_length) // 2
    window = stft._window(torch.device("cpu"), torch.float32)
    window = torch.nn.functional.pad(window, (before, n_fft - win_length - before))
    given = torch.fft.irfft(spectrum.mT, n=n_fft) * window
    wave = torch.zeros(2, n_fft + hop * (frames - 1))
    weights = torch.zeros(n_fft + hop * (frames - 1))
    # The inverse adds the first parts of all frames, then the second parts, and so on.
    for part in range(0, n_fft, hop):
        for frame in range(frames):
            end = min(part + hop, n_fft)
            place = slice(frame * hop + part, frame * hop + end)
            wave[:, place] += given[:, frame, part:end]
            weights[place] += window[part:end].square()
    start = n_fft // 2 if center else stft.leading_frames * hop
    for _ in range(2):  # the second time, the weights are cached
        torch.testing.assert_close(
            stft.inverse(spectrum), wave[:, start:] / weights[start:], rtol=0, atol=0, equal_nan=True
        )


def test_a_call_in_inference_mode_does_not_prevent_training_afterwards():
    stft = Stft(Acoustics(n_fft=64, win_length=48, hop_length=16))
    with torch.inference_mode():
        stft.inverse(stft.transform(wave_of(400)))
    for frames in (1, 9):  # fewer frames than a sample is in, and more
        spectrogram = torch.randn(2, 33, frames, dtype=torch.complex64, requires_grad=True)
        stft.inverse(spectrogram).square().sum().backward()
        assert spectrogram.grad is not None
    wave = wave_of(400).requires_grad_()
    stft.transform(wave).abs().sum().backward()
    assert wave.grad is not None
