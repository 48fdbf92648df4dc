"""Grouped GRUs, and the dual path that runs them over the frequencies and over the frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiozen_plugins.model.past import keep, recall

_GRU_WEIGHTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


class GroupedGRU(nn.Module):
    """Two GRUs, each for one half of the channels.

    Most of the time of a small GRU goes into starting its steps. So the groups, and the two directions of each, are
    computed as a single GRU with block-diagonal weights, which needs a quarter of the steps. One that is not
    bidirectional must run over time, and continues where the piece before has ended (see `Past`).

    Args:
        input_size: the number of input channels of both groups.
        hidden_size: the number of hidden channels of both groups, in one direction.
        bidirectional: whether a second GRU in each group runs backwards. This doubles the output channels.
    """

    def __init__(self, input_size: int, hidden_size: int, *, bidirectional: bool = False) -> None:
        super().__init__()
        self.rnn1 = nn.GRU(input_size // 2, hidden_size // 2, bidirectional=bidirectional)
        self.rnn2 = nn.GRU(input_size // 2, hidden_size // 2, bidirectional=bidirectional)
        self.bidirectional = bidirectional

    def forward(self, x: Tensor) -> Tensor:
        """Runs over the first axis of x [steps, batch, input_size] and returns [steps, batch, channels].

        The channels are those of the first group forwards, then backwards, then those of the second group.
        """
        steps, batch, _ = x.shape
        if self.bidirectional:
            halves = x.reshape(steps, batch, 2, 1, -1)
            x = torch.cat([halves, halves.flip(0)], dim=-2).flatten(2)
        weights = self._joined_weights(x)
        past = None if self.bidirectional else recall()
        state = x.new_zeros(1, batch, weights[1].shape[1]) if past is None else past
        output: Tensor
        output, state = torch.gru(x, state, weights, True, 1, 0.0, self.training, False, False)
        if not self.bidirectional:
            keep(state)
        if self.bidirectional:
            forwards, backwards = output.reshape(steps, batch, 2, 2, -1).unbind(-2)
            output = torch.stack([forwards, backwards.flip(0)], dim=-2).reshape(steps, batch, -1)
        return output

    def _joined_weights(self, x: Tensor) -> list[Tensor]:
        """Returns the weights of the single GRU: for each gate, those of the groups are blocks on a diagonal."""
        directions = ("", "_reverse") if self.bidirectional else ("",)
        groups = [(rnn, direction) for rnn in (self.rnn1, self.rnn2) for direction in directions]
        joined = []
        for name in _GRU_WEIGHTS:
            weights = torch.stack([getattr(rnn, name + direction) for rnn, direction in groups])
            by_gate = weights.reshape(len(groups), 3, -1, *weights.shape[2:]).transpose(0, 1)
            if name.startswith("weight"):
                diagonal = torch.eye(len(groups), dtype=weights.dtype, device=weights.device)
                by_gate = (by_gate.unsqueeze(-2) * diagonal[:, None, :, None]).flatten(-2)
            joined.append(by_gate.flatten(0, 2))
        # cuDNN reads the weights from one piece of memory.
        pieces = torch.split(torch.cat([weight.flatten() for weight in joined]), [weight.numel() for weight in joined])
        return [piece.view_as(weight) for piece, weight in zip(pieces, joined, strict=True)]


class DualPathGRU(nn.Module):
    """Runs a GRU over the frequencies of each frame, then one over the frames of each frequency.

    Both have a linear layer, a layer norm over frequencies and channels, and a residual connection. This is the dual
    path of Luo et al., "Dual-path RNN", 2020, with grouped GRUs. The GRU over the frames is causal.

    Args:
        channels: the number of channels of input and output.
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
        x = x.permute(0, 2, 3, 1)
        batch, frames, freqs, _ = x.shape
        over_freqs = x.permute(2, 0, 1, 3).flatten(1, 2)
        over_freqs = self.intra_fc(self.intra_rnn(over_freqs)).reshape(freqs, batch, frames, -1)
        x = x + self.intra_ln(over_freqs.permute(1, 2, 0, 3))
        over_frames = x.transpose(0, 1).flatten(1, 2)
        over_frames = self.inter_fc(self.inter_rnn(over_frames)).reshape(frames, batch, freqs, -1)
        x = x + self.inter_ln(over_frames.transpose(0, 1))
        return x.permute(0, 3, 1, 2)
