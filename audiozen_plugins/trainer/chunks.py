"""Enhances long signals in overlapping chunks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def enhance_in_chunks(enhance: Callable[[Tensor], Tensor], noisy: Tensor, *, chunk: int, overlap: int) -> Tensor:
    """Enhances a signal chunk by chunk, so that the network starts anew with each chunk.

    Each overlap has three thirds: from the earlier chunk, a fade, from the later chunk. The network settles during the
    first. The result is that of the whole signal, up to rounding, if an output sample depends on input samples at most
    a third of the overlap away.

    Args:
        enhance: maps signals [batch, time] to signals of the same shape.
        noisy: the signal [batch, time].
        chunk: the length of a chunk, in samples. A signal that is not longer is enhanced as a whole.
        overlap: the samples that each chunk shares with the next one; at most half of the chunk, and a multiple of 3.

    Returns:
        The enhanced signal [batch, time].

    Example:
        >>> in_chunks = enhance_in_chunks(lambda wave: 2 * wave, torch.ones(1, 1000), chunk=120, overlap=30)
        >>> bool((in_chunks == 2).all())
        True
    """
    length, third = noisy.shape[-1], overlap // 3
    if length <= chunk:
        return enhance(noisy)
    fade = torch.linspace(0, 1, third + 2, device=noisy.device)[1:-1]
    result = torch.empty_like(noisy)
    for start in range(0, length - overlap, chunk - overlap):
        piece = enhance(noisy[..., start : start + chunk])
        if start == 0:
            result[..., :chunk] = piece
            continue
        fading = result[..., start + third : start + 2 * third]
        fading.lerp_(piece[..., third : 2 * third], fade)
        result[..., start + 2 * third : start + chunk] = piece[..., 2 * third :]
    return result
