"""Processes long signals as windows or overlapping chunks, so that the signals need not fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

DEFAULT_CHUNK = 60.0
"""The default length of a chunk, in seconds."""

DEFAULT_OVERLAP = 0.1
"""The default overlap of two chunks, as a fraction of a chunk."""


def chunk_samples(chunk_seconds: float, overlap_seconds: float | None, *, sr: int, hop: int) -> tuple[int, int]:
    """Returns the lengths of a chunk and of an overlap in samples.

    The chunk is a multiple of the hop, and the overlap is a multiple of three hops. The frames of all chunks are
    therefore frames of the whole file.

    Example:
        >>> chunk_samples(10, 0.1, sr=16000, hop=128)
        (160000, 1536)
    """
    seconds = DEFAULT_OVERLAP * chunk_seconds if overlap_seconds is None else overlap_seconds
    overlap = 3 * max(1, round(seconds * sr / (3 * hop))) * hop
    return max(2 * overlap, round(chunk_seconds * sr / hop) * hop), overlap


class Window(NamedTuple):
    """A window of a stream [..., time], and whether it is the first or the last window."""

    samples: Tensor
    is_first: bool
    is_last: bool


def overlapping_windows(blocks: Iterable[Tensor], length: int, step: int) -> Iterator[Window]:
    """Cuts a stream into overlapping windows.

    Args:
        blocks: the stream [..., time] in blocks of any length.
        length: the length of a window, in samples. The last window may be shorter, and contains at least one sample
            that no earlier window contains.
        step: the number of samples from the start of one window to the start of the next window.

    Example:
        >>> blocks = [torch.arange(4), torch.arange(4, 7)]
        >>> [window.samples.tolist() for window in overlapping_windows(blocks, length=4, step=2)]
        [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6]]
    """
    waiting: list[Tensor] = []
    size, is_first = 0, True
    for block in blocks:
        waiting.append(block)
        size += block.shape[-1]
        if size <= length:
            continue
        joined = torch.cat(waiting, dim=-1) if len(waiting) > 1 else waiting[0]
        begin = 0
        # A window is yielded only when a later sample shows that it is not the last window.
        while size - begin > length:
            yield Window(joined[..., begin : begin + length], is_first, False)
            begin, is_first = begin + step, False
        # A view would keep the whole block in memory.
        waiting, size = [joined[..., begin:].clone()], size - begin
    if waiting:
        yield Window(torch.cat(waiting, dim=-1) if len(waiting) > 1 else waiting[0], is_first, True)


def in_chunks(
    enhance: Callable[[Tensor], Tensor],
    blocks: Iterable[Tensor],
    *,
    chunk: int,
    overlap: int,
    align: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Iterator[Tensor]:
    """Enhances a signal chunk by chunk. The network starts from its initial state in each chunk.

    The first third of an overlap is taken from the earlier chunk, and the last third from the later chunk. In the
    middle third, the output fades from the earlier to the later chunk. During the first third, the network adapts to
    the later chunk. If an output sample depends only on input samples that are at most a third of the overlap away, the
    result equals, up to rounding, the result for the whole signal.

    Args:
        enhance: maps signals [batch, time] to signals [batch, ..., time].
        blocks: the signal [batch, time] in blocks of any length.
        chunk: the length of a chunk, in samples. A signal of at most this length is enhanced as a whole.
        overlap: the number of samples that two successive chunks share: a multiple of 3, and at most half of `chunk`.
        align: called with the enhanced overlap of the earlier chunk and the enhanced later chunk, both [batch, ...,
            time]; returns the later chunk, changed so that it continues the earlier chunk.

    Yields:
        The enhanced signal [batch, ..., time] in pieces. In total, the pieces have as many samples as the blocks.

    Example:
        >>> pieces = in_chunks(lambda wave: 2 * wave, [torch.ones(1, 600), torch.ones(1, 400)], chunk=120, overlap=30)
        >>> joined = torch.cat(list(pieces), dim=-1)
        >>> joined.shape, bool((joined == 2).all())
        (torch.Size([1, 1000]), True)
    """
    third = overlap // 3
    earlier: Tensor | None = None
    for window in overlapping_windows(blocks, chunk, chunk - overlap):
        piece, begin = enhance(window.samples), 0
        if earlier is not None:
            piece = align(earlier, piece) if align else piece
            fade = torch.linspace(0, 1, third + 2, device=piece.device)[1:-1]
            fading = earlier[..., third : 2 * third].lerp(piece[..., third : 2 * third], fade)
            piece, begin = torch.cat([fading, piece[..., 2 * third :]], dim=-1), third
        if window.is_last:
            yield piece
            return
        yield piece[..., : chunk - overlap + third - begin]
        earlier = piece[..., chunk - overlap - begin :].clone()


def join_pieces(pieces: Iterable[Tensor], length: int) -> Tensor:
    """Joins pieces [..., time] to one signal of a known length. A piece can be freed as soon as it is copied."""
    result: Tensor | None = None
    begin = 0
    for piece in pieces:
        if begin == 0 and piece.shape[-1] == length:
            return piece
        if result is None:
            result = piece.new_empty(*piece.shape[:-1], length)
        result[..., begin : begin + piece.shape[-1]] = piece
        begin += piece.shape[-1]
    if result is None or begin != length:
        raise ValueError(f"the pieces have {begin} samples instead of {length}")
    return result
