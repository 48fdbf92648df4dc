"""The multi-resolution STFT loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from audiozen_core.audio.stft import Stft, stfts
from audiozen_plugins.loss.precision import in_full_precision


class MultiResolutionStftLoss(nn.Module):
    """Compares the magnitudes of several STFTs by spectral convergence and log distance, averaged over the STFTs.

    Yamamoto, Song & Kim, "Parallel WaveGAN", ICASSP 2020. `S` are the magnitudes of the estimate, and `T` are the
    magnitudes of the target. The loss of one resolution is

        convergence_weight * mean_batch(‖T - S‖ / ‖T‖) + log_weight * mean(|log T - log S|)

    with the Frobenius norm over the frequencies and frames of each clip. Magnitudes are `sqrt(max(power, eps))`, so the
    loss and its gradient are finite even for silence. The defaults follow the paper.

    Args:
        fft_sizes: the FFT size of each resolution, in samples. A clip must be longer than half of the largest size.
        hop_lengths: the number of samples between successive frames, for each resolution.
        win_lengths: the length of the window in samples, for each resolution.
        window: the name of a window without parameters, as in `[acoustics]`.
        convergence_weight: the weight of the spectral convergence.
        log_weight: the weight of the distance between the logarithms.
        eps: the lowest power. Lower powers are raised to it.

    Raises:
        ValueError: the arrays differ in length, or are empty.
        RunError: the window is unknown, or needs a parameter.
    """

    domain = "waveform"

    def __init__(
        self,
        fft_sizes: Sequence[int] = (1024, 2048, 512),
        hop_lengths: Sequence[int] = (120, 240, 50),
        win_lengths: Sequence[int] = (600, 1200, 240),
        window: str = "hann",
        convergence_weight: float = 1.0,
        log_weight: float = 1.0,
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        self.stfts = stfts(fft_sizes, hop_lengths, win_lengths, window)
        self.convergence_weight = convergence_weight
        self.log_weight = log_weight
        self.eps = eps

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Computes the loss.

        Args:
            estimate: waveforms [batch, time].
            target: waveforms [batch, time].

        Returns:
            The loss, a scalar.

        Raises:
            ValueError: the waveforms differ in shape, or have no samples.
            RunError: the waveforms are too short for the largest FFT.
        """
        waves = in_full_precision(estimate, target, "[batch, time]")
        losses = [self._of_resolution(*(self._magnitude(stft, wave) for wave in waves)) for stft in self.stfts]
        return torch.stack(losses).mean()

    def _of_resolution(self, estimate: Tensor, target: Tensor) -> Tensor:
        distance: Tensor = torch.linalg.vector_norm(target - estimate, dim=(1, 2))
        convergence = (distance / torch.linalg.vector_norm(target, dim=(1, 2))).mean()
        logs: Tensor = nn.functional.l1_loss(estimate.log(), target.log())
        total: Tensor = self.convergence_weight * convergence + self.log_weight * logs
        return total

    def _magnitude(self, stft: Stft, wave: Tensor) -> Tensor:
        # `abs` would compute the square root before the power is limited, and its gradient is inaccurate near 0.
        power: Tensor = torch.view_as_real(stft.transform(wave)).square().sum(-1)
        return power.clamp_min(self.eps).sqrt()
