"""The short-time Fourier transform and its inverse, with the settings of `[acoustics]`."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.errors import RunError

# The smallest weight of the windows at the end of a wave, relative to the largest weight. At this limit, the inverse
# multiplies a network's changes of the spectrogram by 1 / sqrt(_WEAK).
_WEAK = 0.1
# The smallest weight that any sample may have, relative to the largest weight. Below it, the inverse is useless.
_LEAST = 1e-3


class Stft:
    """Transforms waveforms to complex spectrograms and back, always in float32 or float64.

    Torch has no complex STFT in half precision, so half-precision input is converted to float32, also under autocast.

    Args:
        acoustics: the settings.

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
        """Transforms waveforms to centred spectrograms.

        There are `1 + time // hop_length` frames. If the last one reaches the end of the wave only with the edge of its
        window, another one follows: otherwise the last samples of the inverse would be lost, or multiplied by a large
        number as soon as a network changes the spectrogram.

        Args:
            wave: waveforms [..., time].

        Returns:
            Complex spectrograms [..., n_fft // 2 + 1, frames].

        Raises:
            RunError: the waveforms have no more than `n_fft // 2` samples.
        """
        wave = _full_precision(wave)
        numbers = self.acoustics
        if wave.shape[-1] <= numbers.n_fft // 2:
            raise RunError(
                f"{wave.shape[-1]} samples are too few for an STFT of {numbers.n_fft} points, which needs more than "
                f"{numbers.n_fft // 2} samples",
                remedy="leave out such short files, or set a larger `clip_seconds` or a smaller `n_fft`",
            )
        wave = torch.nn.functional.pad(
            wave, (0, self._paddings[(wave.shape[-1] - numbers.n_fft % 2) % numbers.hop_length])
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
        """Transforms spectrograms back to waveforms.

        Args:
            spectrogram: complex spectrograms [..., n_fft // 2 + 1, frames].
            length: the number of samples to return; by default as many as the frames contain.

        Returns:
            Waveforms [..., time].
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
        """Whether `inverse` exists: each sample needs a frame in which the weight of the window is not almost zero."""
        total = self._total_weights()
        return bool(total[: self.acoustics.hop_length].min() > _LEAST * total.max())

    def _total_weights(self) -> Tensor:
        """Returns, for each position in a frame, the weight of the window in this frame and all earlier ones."""
        numbers = self.acoustics
        weights = self._window(torch.device("cpu"), torch.float64).square()
        shifts = range(0, numbers.win_length, numbers.hop_length)
        return torch.stack([torch.nn.functional.pad(weights[shift:], (0, shift)) for shift in shifts]).sum(0)

    @cached_property
    def _paddings(self) -> list[int]:
        """The number of zeros to append to a wave, by the number of its samples after the centre of the last frame.

        With an odd `n_fft`, one sample less fits into the frames.
        """
        numbers = self.acoustics
        total = self._total_weights()
        least = _WEAK * float(total.max())
        centre = numbers.n_fft // 2 - (numbers.n_fft - numbers.win_length) // 2
        paddings = []
        for after in range(numbers.hop_length):
            last = centre + after + numbers.n_fft % 2 - 1
            is_weak = (float(total[last]) if last < len(total) else 0.0) < least
            paddings.append(numbers.hop_length - after if is_weak else 0)
        return paddings

    def _window(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        if (device, dtype) not in self._windows:
            length = self.acoustics.win_length
            make = torch.ones if self.acoustics.window == "rectangular" else torch.hann_window
            self._windows[device, dtype] = make(length, device=device, dtype=dtype)
        return self._windows[device, dtype]


def _full_precision(wave: Tensor) -> Tensor:
    return wave.float() if wave.dtype in (torch.float16, torch.bfloat16) else wave
