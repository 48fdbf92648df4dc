"""The loss of permutation-invariant training (PIT): SI-SNR for the best assignment of estimates to sources."""

from __future__ import annotations

from torch import Tensor, nn

from audiozen_plugins.loss.permutations import best_permutation
from audiozen_plugins.loss.si_snr import si_snr


def pairwise_si_snr(estimates: Tensor, sources: Tensor, *, zero_mean: bool = True, eps: float = 1e-8) -> Tensor:
    """Computes the SI-SNR of each estimate for each source; see `si_snr`.

    Args:
        estimates: waveforms [batch, sources, time].
        sources: waveforms of the same shape.
        zero_mean: whether to subtract the mean of each waveform first.
        eps: an energy that keeps the ratios finite; see `si_snr`.

    Returns:
        The ratios in dB, [batch, estimates, sources].

    Raises:
        ValueError: the shapes differ.
    """
    if estimates.shape != sources.shape or estimates.ndim != 3:
        raise ValueError(
            "PIT needs estimates and sources of the same shape [batch, sources, time], but got "
            f"estimates {list(estimates.shape)} and sources {list(sources.shape)}"
        )
    batch, count, time = sources.shape
    pairs = (
        signals.expand(batch, count, count, time).reshape(-1, time)
        for signals in (estimates.unsqueeze(2), sources.unsqueeze(1))
    )
    ratios = si_snr(*pairs, zero_mean=zero_mean, eps=eps)
    return ratios.reshape(batch, count, count)


class PitSiSnrLoss(nn.Module):
    """The negative SI-SNR in dB (also called SI-SDR) for the best assignment of the estimates to the sources.

    Kolbæk et al., "Multitalker Speech Separation With Utterance-Level Permutation Invariant Training of Deep Recurrent
    Neural Networks", TASLP 2017. All assignments are compared, so there may be up to 8 sources.

    Args:
        zero_mean: whether to subtract the mean of each waveform first.
        eps: the energy that keeps the ratio finite; see `si_snr`.

    Example:
        >>> import torch
        >>> sources = torch.randn(1, 2, 100, generator=torch.Generator().manual_seed(0))
        >>> estimates = sources + 0.1 * sources.roll(1, dims=-1)
        >>> loss = PitSiSnrLoss()
        >>> bool(loss(estimates, sources) == loss(estimates.flip(1), sources))
        True
    """

    domain = "waveform"

    def __init__(self, zero_mean: bool = True, eps: float = 1e-8) -> None:
        super().__init__()
        self.zero_mean = zero_mean
        self.eps = eps

    def forward(self, estimates: Tensor, sources: Tensor) -> Tensor:
        """Computes the loss.

        Args:
            estimates: waveforms [batch, sources, time].
            sources: waveforms of the same shape, in any order.

        Returns:
            The mean loss over the batch, a scalar.

        Raises:
            ValueError: the shapes differ, or there are too many sources.
        """
        ratios = pairwise_si_snr(estimates, sources, zero_mean=self.zero_mean, eps=self.eps)
        return -best_permutation(ratios)[0].mean()
