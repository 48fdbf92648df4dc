"""Enhances long signals in pieces without chunks, by a network that carries its state from one piece to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from audiozen_core.audio.chunks import windows
from audiozen_core.audio.stft import Stft
from audiozen_plugins.model.past import Past


def enhance_in_pieces(
    run: Callable[[Tensor, Tensor], Tensor],
    blocks: Iterable[Tensor],
    *,
    stft: Stft,
    delay: int,
    frames: int,
) -> Iterator[Tensor]:
    """Enhances a stream piece by piece. The network gets each frame of the STFT once, in order.

    Up to rounding, the result is the same as for the whole signal. The memory holds one piece and a few frames.

    Args:
        run: calls the network with noisy spectra [batch, n_fft // 2 + 1, frames]. Its second argument is the noisy
            spectra with the delay of the output. It returns the output as complex spectra of the same shape.
        blocks: the signal [batch, time] in blocks of any length.
        stft: the transform.
        delay: how late the output of the network is, in frames.
        frames: the number of frames of a piece.

    Yields:
        The enhanced signal in pieces [batch, time]. All pieces together have as many samples as the blocks.
    """
    hop = stft.acoustics.hop_length
    # The padding changes this many frames at each end of a window. Likewise, this many frames at each end of a row of
    # frames do not give the samples of the whole signal.
    edge = -(-stft.acoustics.n_fft // hop) + stft.leading_frames
    past = Past()
    late: Tensor | None = None  # the last noisy frames, which belong to output that is still to come
    output: Tensor | None = None  # the last frames of the output
    begin, written = 0, 0  # the frame at which `output` begins, and the samples that are done
    received = 0
    skipped = 0  # the frames of the output that belong to no input
    for window in windows(blocks, (frames + 2 * edge) * hop, frames * hop):
        samples = window.samples
        received += samples.shape[-1] if window.is_first else samples.shape[-1] - 2 * edge * hop
        if window.is_last:
            samples = torch.nn.functional.pad(samples, (0, delay * hop))
        noisy = stft.transform(samples)
        noisy = noisy[..., 0 if window.is_first else edge : None if window.is_last else edge + frames]
        if late is None:
            # No input belongs to the output of the first frames; `skipped` counts them.
            late = torch.zeros_like(noisy[..., :1]).expand(*noisy.shape[:-1], delay)
        partners = torch.cat([late, noisy], dim=-1)
        late = partners[..., partners.shape[-1] - delay :].clone()
        with past.piece():
            new = run(noisy, partners[..., : noisy.shape[-1]])
        surplus = min(delay - skipped, new.shape[-1])
        new, skipped = new[..., surplus:], skipped + surplus
        output = new if output is None else torch.cat([output, new], dim=-1)
        end = received if window.is_last else max(written, (begin + output.shape[-1] - edge) * hop)
        if end > written:
            wave = stft.inverse(output, length=end - begin * hop)
            yield wave[..., written - begin * hop :]
            written = end
        kept = max(0, min(output.shape[-1], begin + output.shape[-1] - (written // hop - edge)))
        begin, output = begin + output.shape[-1] - kept, output[..., output.shape[-1] - kept :].clone()
