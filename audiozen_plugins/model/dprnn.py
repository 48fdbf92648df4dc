"""DPRNN-TasNet: a dual-path recurrent network on a learnt filter bank."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional as F

from audiozen_core.binding.ranges import Positive, Range, check_ranges


class DPRNN(nn.Module):
    """Separates speakers with masks for a learnt filter bank. LSTMs within and across chunks of frames estimate them.

    Luo, Chen and Yoshioka, "Dual-Path RNN: Efficient Long Sequence Modeling for Time-Domain Single-Channel Speech
    Separation", ICASSP 2020. The defaults are the paper's configuration with the best results: 2.6 million parameters,
    and filters of two samples. `kernel_size = 16` with `chunk_size = 100` is the fast configuration of the paper.

    The network cuts the frames into chunks that overlap by half. These chunks have nothing to do with `chunk_seconds`
    of the trainer. Each block has two bidirectional LSTMs. The first LSTM runs along the frames of a chunk. The second
    LSTM runs across the chunks, over the frames at the same position. So the network is not causal, and separates whole
    files.

    Args:
        num_speakers: the number of speakers.
        num_filters: the number of filters of the encoder.
        kernel_size: the length of a filter in samples, an even number. The hop is half of this length.
        features: the number of channels of the blocks.
        hidden: the number of units in each direction of an LSTM.
        num_blocks: the number of blocks.
        chunk_size: the number of frames in a chunk, an even number. The best value is about the square root of twice
            the number of frames in a clip.

    Raises:
        RunError: an argument is out of range.
        ValueError: `kernel_size` or `chunk_size` is odd.

    Example:
        >>> import torch
        >>> net = DPRNN(3, kernel_size=16, features=8, hidden=4, num_blocks=1, chunk_size=10)
        >>> net(torch.zeros(2, 1000)).shape
        torch.Size([2, 3, 1000])
    """

    domain = "waveform"

    def __init__(
        self,
        num_speakers: Positive = 2,
        *,
        num_filters: Positive = 64,
        kernel_size: Annotated[int, Range(least=2)] = 2,
        features: Positive = 64,
        hidden: Positive = 128,
        num_blocks: Positive = 6,
        chunk_size: Annotated[int, Range(least=2)] = 250,
    ) -> None:
        super().__init__()
        check_ranges(DPRNN, locals())
        if kernel_size % 2 or chunk_size % 2:
            raise ValueError(f"`kernel_size` is {kernel_size} and `chunk_size` is {chunk_size}; both must be even")
        self.num_speakers = num_speakers
        self.hop = kernel_size // 2
        self.chunk_size = chunk_size
        self.encoder = nn.Conv1d(1, num_filters, kernel_size, stride=self.hop, bias=False)
        self.norm = nn.GroupNorm(1, num_filters)
        self.bottleneck = nn.Conv1d(num_filters, features, 1)
        self.blocks = nn.Sequential(*(DualPathBlock(features, hidden) for _ in range(num_blocks)))
        self.speakers = nn.Sequential(nn.PReLU(), nn.Conv2d(features, num_speakers * features, 1))
        self.value = nn.Conv1d(features, features, 1)
        self.gate = nn.Conv1d(features, features, 1)
        self.mask = nn.Conv1d(features, num_filters, 1, bias=False)
        self.decoder = nn.ConvTranspose1d(num_filters, 1, kernel_size, stride=self.hop, bias=False)

    def forward(self, mixture: Tensor) -> Tensor:
        """Separates mixtures [batch, time] into speakers [batch, num_speakers, time]."""
        batch, time = mixture.shape
        padded = F.pad(mixture, (self.hop, self.hop + -time % self.hop))
        encoded = self.encoder(padded.unsqueeze(1)).relu()
        chunks = into_chunks(self.bottleneck(self.norm(encoded)), self.chunk_size)
        found = self.speakers(self.blocks(chunks)).unflatten(1, (self.num_speakers, -1)).flatten(0, 1)
        frames = from_chunks(found, encoded.shape[-1])
        masks = self.mask(self.value(frames).tanh() * self.gate(frames).sigmoid()).relu()
        masked = masks.unflatten(0, (batch, -1)) * encoded.unsqueeze(1)
        waves: Tensor = self.decoder(masked.flatten(0, 1)).reshape(batch, self.num_speakers, -1)
        return waves[..., self.hop : self.hop + time]


class DualPathBlock(nn.Module):
    """An LSTM along the frames of each chunk, then an LSTM across the chunks, both with a residual connection.

    Args:
        features: the number of channels.
        hidden: the number of units in each direction.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.within = _Path(features, hidden)
        self.across = _Path(features, hidden)

    def forward(self, chunks: Tensor) -> Tensor:
        """Maps [batch, features, frames of a chunk, chunks] to the same shape."""
        chunks = self.within(chunks)
        across: Tensor = self.across(chunks.transpose(2, 3)).transpose(2, 3)
        return across


class _Path(nn.Module):
    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(2 * hidden, features)
        self.norm = nn.GroupNorm(1, features)

    def forward(self, x: Tensor) -> Tensor:
        """Runs along the third axis of [batch, features, length, others]."""
        batch, features, length, others = x.shape
        sequences = x.permute(0, 3, 2, 1).reshape(batch * others, length, features)
        out = self.linear(self.lstm(sequences)[0]).reshape(batch, others, length, features)
        result: Tensor = x + self.norm(out.permute(0, 3, 2, 1))
        return result


def into_chunks(frames: Tensor, size: int) -> Tensor:
    """Cuts frames into chunks that overlap by half, so that each frame is in two chunks.

    Args:
        frames: the frames [batch, features, frames].
        size: the number of frames in a chunk, an even number.

    Returns:
        The chunks [batch, features, size, chunks].

    Example:
        >>> import torch
        >>> frames = torch.arange(5.0).reshape(1, 1, 5)
        >>> into_chunks(frames, 4)[0, 0].T
        tensor([[0., 0., 0., 1.],
                [0., 1., 2., 3.],
                [2., 3., 4., 0.],
                [4., 0., 0., 0.]])
    """
    half = size // 2
    padded = F.pad(frames, (half, half + -frames.shape[-1] % half))
    return padded.unfold(-1, size, half).transpose(2, 3)


def from_chunks(chunks: Tensor, length: int) -> Tensor:
    """Reverses `into_chunks`: adds the chunks where they overlap, and halves the sum [batch, features, length].

    Example:
        >>> import torch
        >>> frames = torch.arange(5.0).reshape(1, 1, 5)
        >>> from_chunks(into_chunks(frames, 4), 5)
        tensor([[[0., 1., 2., 3., 4.]]])
    """
    half = chunks.shape[2] // 2
    first, second = chunks[:, :, :half, 1:], chunks[:, :, half:, :-1]
    return ((first + second) / 2).transpose(2, 3).flatten(2)[..., :length]
