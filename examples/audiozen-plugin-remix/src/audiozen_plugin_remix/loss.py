"""A loss on spectrograms at several resolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MultiResolutionStftLoss(nn.Module):
    """Spectral convergence plus the distance of log magnitudes, averaged over resolutions.

    After Yamamoto, Song and Kim, "Parallel WaveGAN" (ICASSP 2020). Waveforms are [batch, time].

    Args:
        n_ffts: the sizes of the transforms, in samples; the hop is a quarter of each.
        log_weight: the weight of the log magnitudes; the spectral convergence has weight 1.
        eps: the power below which a bin counts as silent.
    """

    # Tells the trainer to pass waveforms, not magnitudes.
    domain = "waveform"

    def __init__(self, n_ffts: Sequence[int] = (512, 1024, 2048), log_weight: float = 1.0, eps: float = 1e-7) -> None:
        super().__init__()
        self.n_ffts = tuple(n_ffts)
        self.log_weight = log_weight
        self.eps = eps

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Returns the loss of estimates [batch, time] against targets [batch, time], a scalar."""
        losses = [self._at(n_fft, estimate, target) for n_fft in self.n_ffts]
        return torch.stack(losses).mean()

    def _at(self, n_fft: int, estimate: Tensor, target: Tensor) -> Tensor:
        ours, theirs = self._magnitude(estimate, n_fft), self._magnitude(target, n_fft)
        distance = ((theirs - ours).square().sum() + self.eps).sqrt()
        convergence = distance / (theirs.square().sum() + self.eps).sqrt()
        return convergence + self.log_weight * (theirs.log() - ours.log()).abs().mean()

    def _magnitude(self, wave: Tensor, n_fft: int) -> Tensor:
        window = torch.hann_window(n_fft, dtype=wave.dtype, device=wave.device)
        spectrogram = torch.stft(wave, n_fft, n_fft // 4, window=window, return_complex=True)
        return (spectrogram.real.square() + spectrogram.imag.square() + self.eps).sqrt()
