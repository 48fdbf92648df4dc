"""The short-time Fourier transform and its inverse, with the settings of `[acoustics]`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from audiozen_core.audio.acoustics import Acoustics, window_error
from audiozen_core.errors import RunError

# The inverse divides each sample by its weight: the sum of the squared windows of all frames that contain the sample.
# `_WEAK` and `_LEAST` are limits for this weight, relative to the largest weight.
#
# If the weight at the end of a wave is below `_WEAK`, one more frame is added there. At this limit, the inverse
# amplifies a network's changes to the spectrogram by 1 / sqrt(_WEAK).
_WEAK = 0.1
# If the weights of all samples are above `_LEAST`, the STFT counts as invertible: the round trip of a wave between -1
# and 1 is exact to 1e-6. With smaller weights, it would be less exact.
_LEAST = 0.08


class Stft:
    """Transforms waveforms to complex spectrograms and back, always in float32 or float64.

    Torch has no complex STFT in half precision. Half-precision input is therefore converted to float32, also under
    autocast. If the STFT is `invertible`, the inverse restores each sample of a wave between -1 and 1 with an error
    below 1e-6.

    If `center` is True, the first frame is centred on the first sample, and `pad_mode` says whether the ends of the
    wave are padded with mirror images or with zeros. If `center` is False, both ends are padded with zeros, so that the
    first and the last sample are in as many frames as a sample in the middle. The result is `torch.stft(center=False)`
    of the padded wave. Its first `leading_frames` frames begin before the first sample.

    Args:
        acoustics: the settings.

    Raises:
        RunError: the window is unknown, or its parameters are wrong.

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
        if wrong := window_error(acoustics.window, acoustics.window_args):
            raise RunError(wrong, remedy="change `window` or `window_args` in [acoustics]")
        self.acoustics = acoustics
        self._windows: dict[tuple[torch.device, torch.dtype], Tensor] = {}
        self._factors: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def transform(self, wave: Tensor) -> Tensor:
        """Transforms waveforms to spectrograms.

        If `center` is True, there are `1 + time // hop_length` frames. One more frame follows if the last of these
        frames covers the end of the wave only with the edge of its window. Without this frame, the inverse would lose
        the last samples, or would greatly amplify a network's changes to the spectrogram there. If `center` is False,
        the first `leading_frames` frames begin before the first sample, and the last frame is the last one that
        contains the last sample.

        Args:
            wave: waveforms [..., time].

        Returns:
            Complex spectrograms [..., n_fft // 2 + 1, frames].

        Raises:
            RunError: the waveforms have no samples, or too few samples for a mirror image, which needs more than
                `n_fft // 2` samples.
        """
        wave = _full_precision(wave)
        numbers = self.acoustics
        samples = wave.shape[-1]
        least = numbers.n_fft // 2 if numbers.center and numbers.pad_mode == "reflect" else 0
        if samples <= least:
            raise RunError(
                f"{samples} samples are too few for an STFT of {numbers.n_fft} points, which needs more than {least} "
                "samples",
                remedy="leave out such short files, train on longer parts of the files, or set a smaller `n_fft`",
            )
        if numbers.center:
            paddings = (0, self._paddings[(samples - numbers.n_fft % 2) % numbers.hop_length])
        else:
            front = self.leading_frames * numbers.hop_length
            last = (samples - 1 - self._offset) // numbers.hop_length * numbers.hop_length
            paddings = (front, last + numbers.n_fft - samples)
        if any(paddings):  # otherwise `pad` would copy the wave
            wave = torch.nn.functional.pad(wave, paddings)
        with torch.autocast(wave.device.type, enabled=False):
            spectrogram = torch.stft(
                wave.reshape(-1, wave.shape[-1]),
                numbers.n_fft,
                numbers.hop_length,
                numbers.win_length,
                self._window(wave.device, wave.dtype),
                center=numbers.center,
                pad_mode=numbers.pad_mode,
                normalized=numbers.normalized,
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

        Raises:
            RunError: the frames have fewer samples than `length`.
        """
        numbers = self.acoustics
        window, weights = self._inverse_factors(spectrogram.device, spectrogram.real.dtype, spectrogram.shape[-1])
        with torch.autocast(spectrogram.device.type, enabled=False):
            frames = torch.fft.irfft(
                spectrogram.transpose(-1, -2), n=numbers.n_fft, norm="ortho" if numbers.normalized else "backward"
            )
            wave = _overlap_add(frames.mul_(window), numbers.hop_length)
        start = numbers.n_fft // 2 if numbers.center else self.leading_frames * numbers.hop_length
        available = wave.shape[-1] - start
        if length is not None and length > available:
            raise RunError(
                f"{length} samples are needed, but {frames.shape[-2]} frames contain only {available}",
                remedy="pass all frames that `transform` has returned for the wave",
            )
        stop = start + (available if length is None else length)
        return wave[..., start:stop] / weights[start:stop]

    @property
    def leading_frames(self) -> int:
        """The number of frames that begin before the first sample; 0 if `center` is True."""
        numbers = self.acoustics
        if numbers.center:
            return 0
        before = max(self._offset + numbers.win_length - numbers.hop_length, numbers.n_fft // 2)
        return -(-before // numbers.hop_length)

    @property
    def _offset(self) -> int:
        """The start of the window within a frame, in samples."""
        return (self.acoustics.n_fft - self.acoustics.win_length) // 2

    @property
    def invertible(self) -> bool:
        """Whether `inverse` restores every sample. For this, the weight of each sample must be above `_LEAST`."""
        total = self._total_weights()
        least = total[: self.acoustics.hop_length].min()
        return bool(torch.minimum(least, self._least_at_ends()) > _LEAST * total.max())

    def _least_at_ends(self) -> Tensor:
        """Returns the smallest weight of a sample near the ends of a wave, for waves of any length.

        If `center` is False, it returns infinity, because the ends then have as much weight as the middle. If `center`
        is True, the first frame is centred on the first sample. The first samples have enough weight if the window is
        largest in its middle, but too little weight with some `general_cosine` windows.
        """
        numbers = self.acoustics
        weights = self._window(torch.device("cpu"), torch.float64).square()
        least = torch.tensor(torch.inf, dtype=torch.float64)
        if not numbers.center:
            return least
        hop, start = numbers.hop_length, numbers.n_fft // 2 - self._offset
        # Waves of `n_fft` to `n_fft + hop - 1` samples are long enough that no frame covers samples near both ends.
        # Every longer wave ends like one of these waves.
        frames: dict[int, list[int]] = {}
        for samples in range(numbers.n_fft, numbers.n_fft + hop):
            fitting = samples - numbers.n_fft % 2
            frames.setdefault(1 + (fitting + self._paddings[fitting % hop]) // hop, []).append(samples)
        total = torch.zeros(start + numbers.win_length + max(frames) * hop + hop, dtype=torch.float64)
        for frame in range(max(frames)):
            total[frame * hop : frame * hop + numbers.win_length] += weights
            for samples in frames.get(frame + 1, ()):
                least = torch.minimum(least, total[start : start + samples].min())
        return least

    def _total_weights(self) -> Tensor:
        """Returns, for each position in a frame, the sum of the squared windows of this and all earlier frames."""
        numbers = self.acoustics
        weights = self._window(torch.device("cpu"), torch.float64).square()
        shifts = range(0, numbers.win_length, numbers.hop_length)
        return torch.stack([torch.nn.functional.pad(weights[shift:], (0, shift)) for shift in shifts]).sum(0)

    @cached_property
    def _paddings(self) -> list[int]:
        """The number of zeros to append to a wave if `center` is True.

        The index into the list is the number of samples after the centre of the last frame. If `n_fft` is odd, the wave
        counts as one sample shorter.
        """
        numbers = self.acoustics
        total = self._total_weights()
        least = _WEAK * float(total.max())
        centre = numbers.n_fft // 2 - self._offset
        paddings = []
        for after in range(numbers.hop_length):
            last = centre + after + numbers.n_fft % 2 - 1
            is_weak = (float(total[last]) if last < len(total) else 0.0) < least
            paddings.append(numbers.hop_length - after if is_weak else 0)
        return paddings

    def _window(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        if (device, dtype) not in self._windows:
            # Autograd can't use a tensor that was made in inference mode, not even after this mode.
            with torch.inference_mode(False):
                self._windows[device, dtype] = _make_window(self.acoustics, device=device, dtype=dtype)
        return self._windows[device, dtype]

    def _inverse_factors(self, device: torch.device, dtype: torch.dtype, count: int) -> tuple[Tensor, Tensor]:
        """Returns the window [n_fft] of `inverse`, and the weight of each sample of `count` frames."""
        numbers = self.acoustics
        hop, parts = numbers.hop_length, -(-numbers.n_fft // numbers.hop_length)
        if (device, dtype) not in self._factors:
            paddings = (self._offset, numbers.n_fft - numbers.win_length - self._offset)
            with torch.inference_mode(False):
                window = torch.nn.functional.pad(self._window(device, dtype), paddings)
                self._factors[device, dtype] = window, _overlap_add(window.square().expand(parts, -1), hop)
        window, weights = self._factors[device, dtype]
        if count < parts:
            return window, _overlap_add(window.square().expand(count, -1), hop)
        # From the last part of the first frame to the first part of the last frame, the weights repeat after each hop.
        begin, end = (parts - 1) * hop, parts * hop
        repeated = weights[begin:end].expand(count - parts + 1, -1).flatten()
        return window, torch.cat([weights[:begin], repeated, weights[end:]])


def stfts(
    fft_sizes: Sequence[int], hop_lengths: Sequence[int], win_lengths: Sequence[int], window: str = "hann"
) -> list[Stft]:
    """Returns an STFT for each of several resolutions.

    Args:
        fft_sizes: the FFT size of each resolution, in samples.
        hop_lengths: the number of samples between successive frames, for each resolution.
        win_lengths: the length of the window in samples, for each resolution.
        window: the window of all resolutions: a window of `[acoustics]` that needs no parameter.

    Raises:
        ValueError: the arrays differ in length, or are empty.
        RunError: the window is unknown, or needs a parameter.
    """
    if not fft_sizes or not len(fft_sizes) == len(hop_lengths) == len(win_lengths):
        raise ValueError(
            "`fft_sizes`, `hop_lengths` and `win_lengths` need one number for each resolution: they have "
            f"{len(fft_sizes)}, {len(hop_lengths)} and {len(win_lengths)}"
        )
    return [
        Stft(Acoustics(n_fft=n_fft, hop_length=hop, win_length=length, window=window))
        for n_fft, hop, length in zip(fft_sizes, hop_lengths, win_lengths, strict=True)
    ]


def _overlap_add(frames: Tensor, hop: int) -> Tensor:
    """Adds up frames [..., frames, time] that begin `hop` samples apart. Returns waves [..., time].

    `torch.istft` does this too, but also checks whether a sample has a weight of zero. If the tensors are on a GPU, the
    CPU must wait for the result of this check in each step. Read `invertible` once instead, before the first step.
    """
    count, size = frames.shape[-2:]
    parts = -(-size // hop)
    if parts * hop > size:
        frames = torch.nn.functional.pad(frames, (0, parts * hop - size))
    # Each frame is cut into parts of one hop. The first parts of all frames form one continuous signal, and so do the
    # second parts, and so on. Each of these signals begins one hop after the previous one.
    first, *further = frames.reshape(*frames.shape[:-1], parts, hop).unbind(-2)
    total = torch.nn.functional.pad(first, (0, 0, 0, parts - 1))
    for begin, part in enumerate(further, start=1):
        total[..., begin : begin + count, :] += part
    return total.flatten(-2)[..., : size + hop * (count - 1)]


def _make_window(acoustics: Acoustics, **options: Any) -> Tensor:
    """Returns the periodic window [win_length]."""
    length, name = acoustics.win_length, acoustics.window
    if name == "rectangular":
        return torch.ones(length, **options)
    if name in ("hann", "sqrt_hann"):
        window = torch.hann_window(length, **options)
        return window.sqrt() if name == "sqrt_hann" else window
    make: Callable[..., Tensor] = getattr(torch.signal.windows, name)
    return make(length, sym=False, **acoustics.window_args, **options)


def _full_precision(wave: Tensor) -> Tensor:
    return wave.float() if wave.dtype in (torch.float16, torch.bfloat16) else wave
