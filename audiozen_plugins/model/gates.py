"""Gates: factors between 0 and 1 that scale channels. They are estimated from the energies of the channels."""

from __future__ import annotations

from torch import Tensor, nn

from audiozen_plugins.kernels.energies import band_energies
from audiozen_plugins.kernels.gru import run_grus
from audiozen_plugins.model.past import keep, recall


def temporal_gate(x: Tensor, gru: nn.GRU, linear: nn.Linear) -> Tensor:
    """Estimates the gate of each channel from the energies of the current frame and all earlier frames.

    Args:
        x: a signal [batch, channels, frames, frequencies].
        gru: a GRU from channels to hidden channels.
        linear: a layer from hidden channels to channels.

    Returns:
        The gates [batch, channels, frames, 1], between 0 and 1.
    """
    energies = band_energies(x).transpose(1, 2)
    hidden, state = run_grus([gru], energies, recall(), axis=1)
    keep(state)
    weights: Tensor = linear(hidden).sigmoid()
    return weights.transpose(1, 2).unsqueeze(-1)
