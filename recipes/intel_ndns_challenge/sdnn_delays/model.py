"""The baseline's network, written out from its blocks so that it can be changed here.

The published weights fit it, and those that it learns fit the installed model `sdnn`.
"""

import torch
from torch import Tensor, nn

from audiozen.model import DenseBlock, InputBlock, OutputBlock

NUM_FREQS = 257
HIDDEN_SIZE = 512
STFT_MEAN = 0.2


class Model(nn.Module):
    """A sigma-delta network with axonal delays: noisy magnitudes [batch, 257, frames] to enhanced ones.

    Args:
        threshold: the smallest change that a neuron sends on.
        tau_grad: no effect here: thresholds are not learned (see `audiozen.model.SDNN`).
        scale_grad: no effect here, likewise.
        max_delay: the longest delay that a neuron can learn, in frames.
        out_delay: how many frames later the output comes.
    """

    def __init__(
        self,
        threshold: float = 0.1,
        tau_grad: float = 0.1,
        scale_grad: float = 0.8,
        max_delay: int = 64,
        out_delay: int = 0,
    ) -> None:
        super().__init__()
        self.tau_grad = tau_grad
        self.scale_grad = scale_grad
        self.out_delay = out_delay
        self.blocks = nn.Sequential(
            InputBlock(threshold),
            DenseBlock(NUM_FREQS, HIDDEN_SIZE, threshold, max_delay),
            DenseBlock(HIDDEN_SIZE, HIDDEN_SIZE, threshold, max_delay),
            OutputBlock(HIDDEN_SIZE, NUM_FREQS, threshold),
        )

    def forward(self, noisy: Tensor) -> Tensor:
        """Estimates a mask and puts it on the magnitudes, `out_delay` frames later."""
        # Half precision cannot tell the steps of 1/4096 apart that the network computes in.
        with torch.autocast(noisy.device.type, enabled=False):
            spikes = (noisy.float() - STFT_MEAN).permute(1, 2, 0).contiguous()
            mask = torch.relu(self.blocks(spikes).permute(2, 0, 1) + 1)
        delayed = nn.functional.pad(noisy, (self.out_delay, 0))[..., : noisy.shape[-1]]
        return delayed * mask
