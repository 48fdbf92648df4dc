"""The network of the baseline, built from blocks so that you can change it here.

The network can load the published weights, and the installed model `sdnn` can load the weights of this network.
"""

import torch
from torch import Tensor, nn

from audiozen.model import DenseBlock, InputBlock, OutputBlock

NUM_FREQS = 257
HIDDEN_SIZE = 512
STFT_MEAN = 0.2


class Model(nn.Module):
    """A sigma-delta network with axonal delays that enhances magnitudes [batch, 257, frames].

    Args:
        threshold: the smallest change that a neuron sends.
        tau_grad: has no effect, because thresholds are not learned (see `audiozen.model.SDNN`).
        scale_grad: has no effect, for the same reason.
        max_delay: the longest delay that a neuron can learn, in frames.
        out_delay: the delay of the output, in frames.
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
        """Estimates a mask and multiplies it with the magnitudes, delayed by `out_delay` frames."""
        # Half precision can't represent the network's steps of 1/4096.
        with torch.autocast(noisy.device.type, enabled=False):
            centred = (noisy.float() - STFT_MEAN).permute(1, 2, 0).contiguous()
            mask = torch.relu(self.blocks(centred).permute(2, 0, 1) + 1)
        delayed = nn.functional.pad(noisy, (self.out_delay, 0))[..., : noisy.shape[-1]]
        return delayed * mask
