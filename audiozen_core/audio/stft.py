"""The short-time Fourier transform and its inverse, by the numbers of `[acoustics]`."""

from __future__ import annotations

import torch
from torch import Tensor

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.errors import RunError


class Stft:
    """The transform of waveforms to complex spectrograms, and back, always in float32 or float64.

    Complex numbers have no half precision, so half-precision input is raised to float32, under AMP too.

    Args:
        acoustics: the numbers.

    Example:
        >>> import torch
        >>> stft = Stft(Acoustics(n_fft=512, win_length=512, hop_length=128))
        >>> wave = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
        >>> spectrogram = stft.transform(wave)
        >>> spectrogram.shape
        torch.Size([2, 257, 126])
        >>> torch.allclose(stft.inverse(spectrogram, length=16000), wave, atol=1e-5)
        True
    """

    def __init__(self, acoustics: Acoustics) -> None:
        self.acoustics = acoustics
        self._windows: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def transform(self, wave: Tensor) -> Tensor:
        """Waveforms [..., time] to centred complex spectrograms [..., n_fft // 2 + 1, frames].

        Raises:
            RunError: the waveforms are too short for one frame.
        """
        wave = _full_precision(wave)
        numbers = self.acoustics
        if wave.shape[-1] <= numbers.n_fft // 2:
            raise RunError(
                f"{wave.shape[-1]} samples are too few for an STFT of {numbers.n_fft}: it takes more than half of that",
                remedy="leave out such short files, make `clip_seconds` longer, or `n_fft` smaller",
            )
        with torch.autocast(wave.device.type, enabled=False):
            spectrogram = torch.stft(
                wave.reshape(-1, wave.shape[-1]),
                numbers.n_fft,
                numbers.hop_length,
                numbers.win_length,
                self._window(wave.device, wave.dtype),
                return_complex=True,
            )
        return spectrogram.reshape(*wave.shape[:-1], *spectrogram.shape[-2:])

    def inverse(self, spectrogram: Tensor, *, length: int | None = None) -> Tensor:
        """Complex spectrograms [..., n_fft // 2 + 1, frames] to waveforms [..., time].

        Args:
            spectrogram: what `transform` gave, or something of that form.
            length: the number of samples wanted; without it, that of the whole frames.
        """
        numbers = self.acoustics
        window = self._window(spectrogram.device, spectrogram.real.dtype)
        with torch.autocast(spectrogram.device.type, enabled=False):
            wave = torch.istft(
                spectrogram.reshape(-1, *spectrogram.shape[-2:]),
                numbers.n_fft,
                numbers.hop_length,
                numbers.win_length,
                window,
                length=length,
            )
        return wave.reshape(*spectrogram.shape[:-2], wave.shape[-1])

    @property
    def invertible(self) -> bool:
        """Whether each sample lies in some frame with a weight that is not almost zero, so that `inverse` exists."""
        numbers = self.acoustics
        weights = self._window(torch.device("cpu"), torch.float64).square()
        shifts = range(0, numbers.win_length, numbers.hop_length)
        total = sum(torch.nn.functional.pad(weights[shift:], (0, shift)) for shift in shifts)
        assert isinstance(total, Tensor)
        # The limit is that of torch.istft.
        return bool(total[: numbers.hop_length].min() > 1e-11)

    def _window(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        if (device, dtype) not in self._windows:
            length = self.acoustics.win_length
            make = torch.ones if self.acoustics.window == "rectangular" else torch.hann_window
            self._windows[device, dtype] = make(length, device=device, dtype=dtype)
        return self._windows[device, dtype]


def _full_precision(wave: Tensor) -> Tensor:
    return wave.float() if wave.dtype in (torch.float16, torch.bfloat16) else wave
