"""Measures the forward and backward pass of GTCRN for 8 clips of 1.5 s at 16 kHz, on one thread.

One peer is the network as it was published. It consists of PyTorch's own layers: each group of a GRU is a
`torch.nn.GRU`, and the features of neighbouring bands are copied to each band. The other peer is AudioZEN's network
without kernels, which runs if numba is not installed. All networks have the same weights, and their outputs are
compared before anything is measured.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiozen_plugins.kernels.plain_forms import without_kernels
from audiozen_plugins.model.dual_path import DualPathGRU, GroupedGRU
from audiozen_plugins.model.gtcrn import GTCRN, _BandConv, _TemporalAttention, _TemporalConv
from benchmarks.measuring import Goal, Row, compare, cpu_seconds

CLIPS, FRAMES = 8, 94


def rows(rounds: int = 7) -> list[Row]:
    """Measures one row."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    network = GTCRN()
    plain, published = copy.deepcopy(network), as_published(copy.deepcopy(network))
    noisy = torch.randn(CLIPS, 257, FRAMES, 2)

    def step(module: nn.Module) -> Tensor:
        module.zero_grad()
        enhanced: Tensor = module(noisy)
        enhanced.square().mean().backward()
        return enhanced.detach()

    def step_without_kernels() -> Tensor:
        with without_kernels():
            return step(plain)

    expected = step(network)
    for other in (step_without_kernels(), step(published)):
        torch.testing.assert_close(other, expected, rtol=0, atol=1e-5)
    return [
        compare(
            f"GTCRN, forward and backward, {CLIPS} clips of 1.5 s",
            lambda: cpu_seconds(lambda: step(network)),
            {
                "our network in plain PyTorch": lambda: cpu_seconds(step_without_kernels),
                "the network as published": lambda: cpu_seconds(lambda: step(published)),
            },
            unit="ms of CPU",
            scale=1000,
            goal=Goal("at most", 0.5),
            rounds=rounds,
        )
    ]


def as_published(network: GTCRN) -> GTCRN:
    """Returns the network with layers that compute as the published code does. The weights and their names stay."""
    for module in network.modules():
        for kind, forward in _PUBLISHED.items():
            if type(module) is kind:
                module.forward = forward.__get__(module)  # type: ignore[method-assign]
    return network


def _band_conv(self: _BandConv, x: Tensor) -> Tensor:
    output: Tensor = self.act(self.bn(self.conv(x)))
    return output


def _temporal_conv(self: _TemporalConv, x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=1)
    first = F.pad(first, (1, 1)).unfold(-1, 3, 1).movedim(-1, 2).flatten(1, 2)
    first = self.point_act(self.point_bn1(self.point_conv1(first)))
    past, conv = 2 * self.dilation, self.depth_conv
    first = F.pad(first, (0, 0, past, 0))
    if isinstance(conv, nn.ConvTranspose2d):
        shape = {"padding": (past, 1), "groups": conv.groups, "dilation": (self.dilation, 1)}
        first = F.conv_transpose2d(first, conv.weight, conv.bias, **shape)
    else:
        shape = {"padding": (0, 1), "groups": conv.groups, "dilation": (self.dilation, 1)}
        first = F.conv2d(first, conv.weight, conv.bias, **shape)
    first = self.depth_act(self.depth_bn(first))
    first = self.tra(self.point_bn2(self.point_conv2(first)))
    return torch.stack([first, second], dim=2).flatten(1, 2)


def _temporal_attention(self: _TemporalAttention, x: Tensor) -> Tensor:
    energies = x.square().mean(-1)
    hidden, _ = self.att_gru(energies.transpose(1, 2))
    gate: Tensor = self.att_fc(hidden).transpose(1, 2).sigmoid()
    return x * gate.unsqueeze(-1)


def _grouped_gru(self: GroupedGRU, x: Tensor, axis: int = 0) -> Tensor:
    first, second = x.transpose(0, axis).flatten(1, -2).chunk(2, dim=-1)
    output = torch.cat([self.rnn1(first)[0], self.rnn2(second)[0]], dim=-1)
    shape = x.transpose(0, axis).shape[:-1]
    return output.reshape(*shape, -1).transpose(0, axis)


def _dual_path(self: DualPathGRU, x: Tensor) -> Tensor:
    x = x.permute(0, 2, 3, 1)
    x = x + self.intra_ln(self.intra_fc(self.intra_rnn(x, axis=2)))
    x = x + self.inter_ln(self.inter_fc(self.inter_rnn(x, axis=1)))
    return x.permute(0, 3, 1, 2)


_PUBLISHED = {
    _BandConv: _band_conv,
    _TemporalConv: _temporal_conv,
    _TemporalAttention: _temporal_attention,
    GroupedGRU: _grouped_gru,
    DualPathGRU: _dual_path,
}
