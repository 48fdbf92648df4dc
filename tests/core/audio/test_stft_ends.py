"""The inverse of the STFT returns the last samples of a wave of any length, also if a network changed the spectrum."""

from __future__ import annotations

import pytest
import torch

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.audio.stft import Stft

SETTINGS = [
    (512, 512, 256, "hann"), (512, 512, 128, "hann"), (512, 512, 250, "hann"), (512, 512, 300, "hann"),
    (512, 512, 340, "hann"), (512, 320, 160, "hann"), (511, 511, 256, "hann"), (512, 512, 512, "rectangular"),
    (512, 512, 384, "rectangular"), (512, 400, 400, "rectangular"), (1024, 256, 256, "rectangular"),
    (512, 512, 128, "rectangular"),
]  # fmt: skip


@pytest.mark.parametrize(("n_fft", "win_length", "hop_length", "window"), SETTINGS)
def test_ends_of_a_wave_of_any_length_are_inverted(n_fft, win_length, hop_length, window):
    stft = Stft(Acoustics(n_fft=n_fft, win_length=win_length, hop_length=hop_length, window=window))
    assert stft.invertible
    generator = torch.Generator().manual_seed(0)
    middle = slice(hop_length, -hop_length)

    for length in range(1500, 1500 + hop_length):
        wave = torch.rand(length, generator=generator) - 0.5
        spectrogram = stft.transform(wave)
        changed = stft.inverse(spectrogram * torch.rand(spectrogram.shape, generator=generator), length=length)

        inverse = stft.inverse(spectrogram, length=length)
        # A window without overlap is nearly 0 between the frames, in the middle of a wave too.
        error = (inverse - wave).abs()
        assert error.max() < 2e-5 + 2 * error[middle].max()
        assert changed.abs().max() < 2 * changed[middle].abs().max() + 1


def test_torch_itself_returns_a_large_sample_at_the_end():
    """Negative control: with the default settings, a sample of some waves was more than a hundred times too loud."""
    window = torch.hann_window(512)
    wave = torch.rand(16127, generator=torch.Generator().manual_seed(0)) - 0.5
    spectrum = torch.stft(wave, 512, 256, 512, window, return_complex=True)
    mask = torch.rand(spectrum.shape, generator=torch.Generator().manual_seed(1))
    assert torch.istft(spectrum * mask, 512, 256, 512, window, length=16127).abs().max() > 10


def test_number_of_frames_is_unchanged_where_windows_overlap_enough():
    stft = Stft(Acoustics(n_fft=512, win_length=512, hop_length=128))
    for length in range(1500, 1628):
        assert stft.transform(torch.zeros(length)).shape[-1] == 1 + length // 128
    assert not Stft(Acoustics(n_fft=512, win_length=512, hop_length=500)).invertible
    # Half overlap: a frame is added only if the last one reaches the end with the edge of its window.
    stft = Stft(Acoustics(n_fft=512, win_length=512, hop_length=256))
    added = [stft.transform(torch.zeros(length)).shape[-1] - 1 - length // 256 for length in range(1536, 1792)]
    assert added == sorted(added)
    assert added[:129] == [0] * 129
    assert added[-80:] == [1] * 80
