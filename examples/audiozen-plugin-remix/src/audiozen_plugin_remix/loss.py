"""A loss on mel spectrograms at several resolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MelDistanceLoss(nn.Module):
    """The mean absolute difference of log mel spectrograms, averaged over resolutions.

    After Kumar et al., "High-Fidelity Audio Compression with Improved RVQGAN" (NeurIPS 2023). Waveforms are
    [batch, time].

    Args:
        n_ffts: the sizes of the transforms, in samples; the hop is a quarter of each.
        num_mels: the number of mel bands at each size.
        sr: the sample rate, in hertz.
        eps: the power below which a band counts as silent.
    """

    # Tells the trainer to pass waveforms, not magnitudes.
    domain = "waveform"

    def __init__(
        self, n_ffts: Sequence[int] = (512, 1024, 2048), num_mels: int = 40, sr: int = 16000, eps: float = 1e-7
    ) -> None:
        super().__init__()
        self.n_ffts = tuple(n_ffts)
        self.num_mels = num_mels
        self.sr = sr
        self.eps = eps

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Returns the loss of estimates [batch, time] against targets [batch, time], a scalar."""
        losses = [
            (self._log_mels(estimate, n_fft) - self._log_mels(target, n_fft)).abs().mean() for n_fft in self.n_ffts
        ]
        return torch.stack(losses).mean()

    def _log_mels(self, wave: Tensor, n_fft: int) -> Tensor:
        window = torch.hann_window(n_fft, dtype=wave.dtype, device=wave.device)
        spectrogram = torch.stft(wave, n_fft, n_fft // 4, window=window, return_complex=True)
        power = spectrogram.real.square() + spectrogram.imag.square()
        filters = mel_filters(n_fft, self.num_mels, self.sr).to(power)
        return 0.5 * (filters @ power + self.eps).log()


def mel_filters(n_fft: int, num_mels: int, sr: int) -> Tensor:
    """Returns triangular filters [num_mels, n_fft // 2 + 1] that are equally spaced on the mel scale."""
    highest = 2595 * torch.tensor(1 + sr / 2 / 700, dtype=torch.float64).log10()
    edges = 700 * (10 ** (torch.linspace(0, 1, num_mels + 2, dtype=torch.float64) * highest / 2595) - 1)
    lower, centre, upper = (edges[start : start + num_mels, None] for start in range(3))
    frequencies = torch.linspace(0, sr / 2, n_fft // 2 + 1, dtype=torch.float64)
    rising, falling = (frequencies - lower) / (centre - lower), (upper - frequencies) / (upper - centre)
    return torch.minimum(rising, falling).clamp_min(0)
