"""Enhances long signals in overlapping chunks."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from audiozen_core.errors import RunError

DEFAULT_OVERLAP = 1.0
"""How much two chunks share if the file does not say it, in seconds."""


def chunk_error(chunk_seconds: float | None, overlap_seconds: float | None) -> tuple[str, RunError] | None:
    """Returns which of these arguments is wrong, and why; None if a file can be cut into such chunks."""
    if chunk_seconds is None:
        if overlap_seconds is None:
            return None
        return "overlap_seconds", RunError(
            "`overlap_seconds` has no effect without `chunk_seconds`: each file is enhanced as a whole",
            remedy="set `chunk_seconds` in [trainer.args], too, or leave `overlap_seconds` out",
        )
    overlap = DEFAULT_OVERLAP if overlap_seconds is None else overlap_seconds
    if not 2 * overlap <= chunk_seconds < math.inf:
        return "chunk_seconds", RunError(
            f"`chunk_seconds` is {chunk_seconds}, but must be at least twice `overlap_seconds`, {overlap}"
            f"{' by default' if overlap_seconds is None else ''}, and finite",
            remedy="set a larger `chunk_seconds` in [trainer.args], such as 10, or a smaller `overlap_seconds`",
        )
    return None


def chunk_samples(chunk_seconds: float, overlap_seconds: float | None, *, sr: int, hop: int) -> tuple[int, int]:
    """Returns the lengths of a chunk and of an overlap in samples.

    The chunk is a multiple of the hop and the overlap one of three hops, so that the frames of all chunks are those of
    the whole file.

    Example:
        >>> chunk_samples(10, 0.1, sr=16000, hop=128)
        (160000, 1536)
    """
    seconds = DEFAULT_OVERLAP if overlap_seconds is None else overlap_seconds
    overlap = 3 * max(1, round(seconds * sr / (3 * hop))) * hop
    return max(2 * overlap, round(chunk_seconds * sr / hop) * hop), overlap


def enhance_in_chunks(
    enhance: Callable[[Tensor], Tensor],
    noisy: Tensor,
    *,
    chunk: int,
    overlap: int,
    align: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Enhances a signal chunk by chunk, so that the network starts from its initial state in each chunk.

    Each overlap has three thirds: from the earlier chunk, a fade, from the later chunk. The network settles during the
    first. The result is that of the whole signal, up to rounding, if an output sample depends on input samples at most
    a third of the overlap away.

    Args:
        enhance: maps signals [batch, time] to signals [batch, ..., time].
        noisy: the signal [batch, time].
        chunk: the length of a chunk, in samples. A signal that is not longer is enhanced as a whole.
        overlap: the samples that each chunk shares with the next one; at most half of the chunk, and a multiple of 3.
        align: called with the overlap [batch, ..., time] as the earlier chunk has it, and the enhanced later chunk;
            returns the later chunk as it continues the earlier one.

    Returns:
        The enhanced signal [batch, ..., time].

    Example:
        >>> in_chunks = enhance_in_chunks(lambda wave: 2 * wave, torch.ones(1, 1000), chunk=120, overlap=30)
        >>> bool((in_chunks == 2).all())
        True
    """
    length, third = noisy.shape[-1], overlap // 3
    if length <= chunk:
        return enhance(noisy)
    fade = torch.linspace(0, 1, third + 2, device=noisy.device)[1:-1]
    result = enhance(noisy[..., :chunk])
    result = torch.cat([result, result.new_empty(*result.shape[:-1], length - chunk)], dim=-1)
    for start in range(chunk - overlap, length - overlap, chunk - overlap):
        piece = enhance(noisy[..., start : start + chunk])
        if align:
            piece = align(result[..., start : start + overlap], piece)
        fading = result[..., start + third : start + 2 * third]
        fading.lerp_(piece[..., third : 2 * third], fade)
        result[..., start + 2 * third : start + chunk] = piece[..., 2 * third :]
    return result
