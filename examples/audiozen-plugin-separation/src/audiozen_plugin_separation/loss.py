"""The loss of permutation-invariant training."""

from __future__ import annotations

from audiozen.loss import si_snr
from torch import Tensor, nn

from audiozen_plugin_separation.permutations import best_permutation


def pairwise_si_snr(estimates: Tensor, sources: Tensor) -> Tensor:
    """Computes the SI-SNR of each estimate for each source, in dB.

    Args:
        estimates: waveforms [batch, sources, time].
        sources: waveforms of the same shape.

    Returns:
        The ratios [batch, estimates, sources].

    Raises:
        ValueError: the shapes differ.
    """
    if estimates.shape != sources.shape or estimates.ndim != 3:
        raise ValueError(
            "two batches of the same shape [batch, sources, time] are needed: "
            f"estimates {list(estimates.shape)}, sources {list(sources.shape)}"
        )
    batch, count, time = sources.shape
    pairs = estimates.unsqueeze(2), sources.unsqueeze(1)
    ratios = si_snr(*(signals.expand(batch, count, count, time).reshape(-1, time) for signals in pairs))
    return ratios.reshape(batch, count, count)


class PitSiSnrLoss(nn.Module):
    """The negative SI-SNR in dB, for the best assignment of the estimates to the sources of each signal.

    After Kolbæk, Yu, Tan and Jensen, "Multitalker Speech Separation With Utterance-Level Permutation Invariant Training
    of Deep Recurrent Neural Networks" (2017).
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, estimates: Tensor, sources: Tensor) -> Tensor:
        """Computes the mean over the batch.

        Args:
            estimates: waveforms [batch, sources, time].
            sources: waveforms of the same shape, in any order.

        Returns:
            The loss, a scalar.

        Raises:
            ValueError: the shapes differ.
        """
        means, _ = best_permutation(pairwise_si_snr(estimates, sources))
        return -means.mean()
