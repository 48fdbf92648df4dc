"""Grouped GRUs, and a layer that runs grouped GRUs first over the frequencies and then over the frames (dual path)."""

from __future__ import annotations

from torch import Tensor, nn

from audiozen_plugins.kernels.gru import run_grus
from audiozen_plugins.model.past import keep, recall


class GroupedGRU(nn.Module):
    """Two GRUs side by side. The channels are divided into two groups, and each GRU processes one group.

    Bidirectional GRUs may run over any axis. GRUs in one direction must run over time, because they continue from the
    end of the previous piece if a signal comes in pieces (see `Past`).

    Args:
        input_size: the total number of input channels. Each group has half of them.
        hidden_size: the total number of hidden channels in one direction. Each group has half of them.
        bidirectional: whether a second GRU in each group runs backwards. This doubles the number of output channels.
    """

    def __init__(self, input_size: int, hidden_size: int, *, bidirectional: bool = False) -> None:
        super().__init__()
        self.rnn1 = nn.GRU(input_size // 2, hidden_size // 2, bidirectional=bidirectional)
        self.rnn2 = nn.GRU(input_size // 2, hidden_size // 2, bidirectional=bidirectional)
        self.bidirectional = bidirectional

    def forward(self, x: Tensor, axis: int = 0) -> Tensor:
        """Runs over one axis of x [..., input_size], and returns [..., channels].

        The output channels of the first group come first: its forward direction, then its backward direction. The
        output channels of the second group follow in the same order.
        """
        output, state = run_grus((self.rnn1, self.rnn2), x, None if self.bidirectional else recall(), axis)
        if not self.bidirectional:
            keep(state)
        return output


class DualPathGRU(nn.Module):
    """Runs a bidirectional GRU over the frequencies of each frame, then a causal GRU over the frames of each frequency.

    Each GRU is followed by a linear layer, a layer norm over frequencies and channels, and a residual connection. This
    is the dual path of Luo et al., "Dual-path RNN", 2020, but with grouped GRUs.

    Args:
        channels: the number of channels of the input and of the output.
        num_freqs: the number of frequencies.
    """

    def __init__(self, channels: int, num_freqs: int) -> None:
        super().__init__()
        self.intra_rnn = GroupedGRU(channels, channels // 2, bidirectional=True)
        self.intra_fc = nn.Linear(channels, channels)
        self.intra_ln = nn.LayerNorm((num_freqs, channels), eps=1e-8)
        self.inter_rnn = GroupedGRU(channels, channels)
        self.inter_fc = nn.Linear(channels, channels)
        self.inter_ln = nn.LayerNorm((num_freqs, channels), eps=1e-8)

    def forward(self, x: Tensor) -> Tensor:
        """Processes x [batch, channels, frames, frequencies] and returns the same shape."""
        x = x.permute(0, 2, 3, 1).contiguous()
        x = x + self.intra_ln(self.intra_fc(self.intra_rnn(x, axis=2)))
        x = x + self.inter_ln(self.inter_fc(self.inter_rnn(x, axis=1)))
        return x.permute(0, 3, 1, 2)
