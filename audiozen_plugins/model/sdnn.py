"""The sigma-delta network that is the baseline of the Intel N-DNS Challenge."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from audiozen_core.binding.ranges import Natural, Positive, Range, out_of_range
from audiozen_plugins.model.past import keep, recall
from audiozen_plugins.model.sigma_delta import DenseBlock, InputBlock, OutputBlock


class SDNN(nn.Module):
    """A sigma-delta network with axonal delays that enhances the magnitudes of noisy speech.

    This is the baseline solution of Timcheck et al., "The Intel Neuromorphic DNS Challenge", 2023. Two dense layers
    estimate a mask for the magnitude of the STFT. The published weights load without renaming.

    Weights and inputs are quantised as on the neuromorphic hardware, even during training. The network is causal, so it
    can process a stream. It always computes in float32 or float64, even under autocast, because half precision can't
    resolve spikes of 1/4096. Spikes are rounded down, as in the published network, so the *levels* (the running sums of
    the spikes) drift in files of several minutes. For such files, set `chunk_seconds` of the trainer `enhancement`; see
    docs/long_audio.md.

    Args:
        threshold: the smallest change of its input that a neuron sends. It is rounded down to a multiple of 1/64, so
            0.1 means 0.09375. With a higher threshold, the network sends fewer spikes and is less precise.
        tau_grad: has no effect; it exists so that published configurations load. In the original framework, it is the
            width of the surrogate gradient for the threshold. Neither this network nor the published network learns its
            thresholds, and no other gradient uses this number.
        scale_grad: has no effect, for the same reason. In the original framework, it is the height of the surrogate
            gradient.
        max_delay: the longest delay that a neuron can learn, in frames.
        out_delay: the delay of the output in frames, which lets the network look ahead by the same number of frames.
            Frame `t` of the output is the enhanced frame `t - out_delay` of the input, and the first `out_delay` frames
            are zero. Delay the phase or the target likewise before you combine it with the output.
        num_freqs: the number of frequencies, `n_fft // 2 + 1`.
        hidden_size: the number of neurons in each of the two hidden layers.
        mean: a constant that is subtracted from the magnitudes before the first layer.
        carries_state: whether the network carries its state through a file that is longer than a chunk. The output is
            then the same as for the whole file, including the drift of the levels. By default, the network starts anew
            in each chunk, which is better for files longer than half a minute.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> noisy = torch.rand(2, 257, 100, generator=torch.Generator().manual_seed(0))
        >>> SDNN(max_delay=16)(noisy).shape
        torch.Size([2, 257, 100])
    """

    domain = "magnitude"

    def __init__(
        self,
        threshold: Annotated[float, Range(least=0)] = 0.1,
        tau_grad: Annotated[float, Range(above=0)] = 0.1,
        scale_grad: Annotated[float, Range(above=0)] = 0.8,
        max_delay: Natural = 64,
        out_delay: Natural = 0,
        *,
        num_freqs: Positive = 257,
        hidden_size: Positive = 512,
        mean: float = 0.2,
        carries_state: bool = False,
    ) -> None:
        super().__init__()
        if wrong := out_of_range(SDNN, locals()):
            raise ValueError(wrong)
        self.tau_grad = tau_grad
        self.scale_grad = scale_grad
        self.out_delay = out_delay
        self.num_freqs = num_freqs
        self.mean = mean
        self.carries_state = carries_state
        self.blocks = nn.Sequential(
            InputBlock(threshold),
            DenseBlock(num_freqs, hidden_size, threshold, max_delay),
            DenseBlock(hidden_size, hidden_size, threshold, max_delay),
            OutputBlock(hidden_size, num_freqs, threshold),
        )

    def forward(self, noisy: Tensor) -> Tensor:
        """Enhances magnitudes.

        Args:
            noisy: noisy magnitudes [batch, num_freqs, frames].

        Returns:
            Enhanced magnitudes of the same shape, `out_delay` frames later.

        Raises:
            ValueError: the shape is wrong.
        """
        if noisy.ndim != 3 or noisy.shape[1] != self.num_freqs:
            raise ValueError(
                f"SDNN needs magnitudes [batch, {self.num_freqs}, frames], but got {list(noisy.shape)}; "
                "set `num_freqs` to n_fft // 2 + 1"
            )
        with torch.autocast(noisy.device.type, enabled=False):
            noisy = noisy if noisy.dtype == torch.float64 else noisy.float()
            # Copies are changed in place, because each new array of several megabytes takes as long as its computation.
            values = noisy.permute(1, 2, 0).clone(memory_format=torch.contiguous_format).sub_(self.mean)
            estimate: Tensor = self.blocks(values)
            # The mask gets the memory layout of the magnitudes. The next operations then read memory in order, in the
            # forward and in the backward pass.
            mask = estimate.permute(2, 0, 1).clone(memory_format=torch.contiguous_format).add_(1).relu_()
            return self._delayed(noisy) * mask

    def _delayed(self, noisy: Tensor) -> Tensor:
        """Delays magnitudes [..., frames] by `out_delay` frames.

        The first frames are zeros, or come from the previous piece if a signal comes in pieces (see `Past`).
        """
        if not self.out_delay:
            return noisy
        past = recall()
        late = torch.cat([noisy.new_zeros(*noisy.shape[:-1], self.out_delay) if past is None else past, noisy], dim=-1)
        keep(late[..., noisy.shape[-1] :])
        return late[..., : noisy.shape[-1]]
