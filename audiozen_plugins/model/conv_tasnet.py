"""Conv-TasNet from torchaudio."""

from __future__ import annotations

from typing import Annotated, Literal

from torch import Tensor, nn

from audiozen_core.binding.ranges import Positive, Range, check_ranges
from audiozen_core.registry import torchaudio_loader


class ConvTasNet(nn.Module):
    """Separates speakers with masks for a learnt filter bank. Dilated convolutions over time estimate the masks.

    Luo and Mesgarani, "Conv-TasNet: Surpassing Ideal Time-Frequency Magnitude Masking for Speech Separation", TASLP
    2019. The defaults are the best configuration of the paper. The network is `torchaudio.models.ConvTasNet`, and the
    names of its weights begin with `network.`.

    The network is not causal, and separates whole files, because its global normalisation averages over the whole
    signal. At 8 kHz, its filters last 2 ms, and the receptive field of its convolutions is 1.5 s.

    Args:
        num_speakers: the number of speakers.
        num_filters: the number of filters of the encoder (N in the paper).
        kernel_size: the length of a filter in samples (L), an even number. The hop is half of this length.
        bottleneck: the number of channels between the blocks and in the skip connections (B).
        hidden: the number of channels within a block (H).
        block_kernel_size: the length of the convolutions in a block (P), an odd number.
        num_layers: the number of blocks in a repeat (X). Each block has twice the dilation of the previous block.
        num_repeats: the number of repeats (R).
        mask: the activation function of the masks, `sigmoid` or `relu`.

    Raises:
        RunError: an argument is out of range.
        ValueError: `kernel_size` is odd, or `block_kernel_size` is even.

    Example:
        >>> import torch
        >>> net = ConvTasNet(num_filters=16, bottleneck=8, hidden=16, num_layers=2, num_repeats=1)
        >>> net(torch.zeros(3, 1000)).shape
        torch.Size([3, 2, 1000])
    """

    domain = "waveform"

    def __init__(
        self,
        num_speakers: Positive = 2,
        *,
        num_filters: Positive = 512,
        kernel_size: Annotated[int, Range(least=2)] = 16,
        bottleneck: Positive = 128,
        hidden: Positive = 512,
        block_kernel_size: Positive = 3,
        num_layers: Positive = 8,
        num_repeats: Positive = 3,
        mask: Literal["sigmoid", "relu"] = "sigmoid",
    ) -> None:
        super().__init__()
        check_ranges(ConvTasNet, locals())
        if kernel_size % 2 or not block_kernel_size % 2:
            raise ValueError(
                f"`kernel_size` is {kernel_size} and must be even; `block_kernel_size` is {block_kernel_size} and must "
                "be odd"
            )
        self.num_speakers = num_speakers
        torchaudio_loader.install()
        # The import of torchaudio takes longer than the import of torch, and few experiments need it.
        from torchaudio.models import ConvTasNet as Network

        self.network = Network(
            num_sources=num_speakers,
            enc_kernel_size=kernel_size,
            enc_num_feats=num_filters,
            msk_kernel_size=block_kernel_size,
            msk_num_feats=bottleneck,
            msk_num_hidden_feats=hidden,
            msk_num_layers=num_layers,
            msk_num_stacks=num_repeats,
            msk_activate=mask,
        )

    def forward(self, mixture: Tensor) -> Tensor:
        """Separates mixtures [batch, time] into speakers [batch, num_speakers, time]."""
        separated: Tensor = self.network(mixture.unsqueeze(1))
        return separated
