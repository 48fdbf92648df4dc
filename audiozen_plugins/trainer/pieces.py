"""Enhances long signals piece by piece, with a network that carries its state from one piece to the next.

Unlike the chunks of `long_files`, in which the network always starts anew, the pieces give the same output as the whole
signal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from audiozen_core.audio.chunks import overlapping_windows
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
    """Enhances a signal piece by piece. The network gets each frame of the STFT once, in order.

    Up to rounding, the result is the same as for the whole signal. Only one piece and a few frames are in memory.

    Args:
        run: calls the network, as `run(noisy, delayed)`. `noisy` are the noisy spectra [batch, n_fft // 2 + 1, frames],
            which are the input of the network. `delayed` are the noisy spectra of `delay` frames earlier, which match
            the output in time. The result is the output of the network, as complex spectra of the same shape.
        blocks: the signal [batch, time] in blocks of any length.
        stft: the STFT that makes the spectra.
        delay: the delay of the network's output in frames.
        frames: the number of frames of a piece.

    Yields:
        The enhanced signal in pieces [batch, time]. All pieces together have as many samples as the blocks.
    """
    hop = stft.acoustics.hop_length
    # The signal is cut into sections that overlap. The STFT pads both ends of a section, so `edge` frames at each end
    # differ from the frames of the whole signal. The inverse STFT has the same problem: near both ends of a row of
    # frames, it does not restore the samples of the whole signal.
    edge = -(-stft.acoustics.n_fft // hop) + stft.leading_frames
    past = Past()
    late: Tensor | None = None  # the last `delay` noisy frames; the network has not returned their output yet
    output: Tensor | None = None  # the last frames of the output
    begin, written = 0, 0  # the index of the first frame in `output`, and the number of samples that were yielded
    received = 0
    skipped = 0  # the number of frames at the start of the output that were dropped, because they match no input
    for section in overlapping_windows(blocks, (frames + 2 * edge) * hop, frames * hop):
        samples = section.samples
        received += samples.shape[-1] if section.is_first else samples.shape[-1] - 2 * edge * hop
        if section.is_last and delay:
            samples = torch.nn.functional.pad(samples, (0, delay * hop))
        noisy = stft.transform(samples)
        noisy = noisy[..., 0 if section.is_first else edge : None if section.is_last else edge + frames]
        delayed = noisy
        if delay:
            if late is None:
                # The first `delay` frames of the output match no input. For these frames, `delayed` is zero. They are
                # dropped below.
                late = torch.zeros_like(noisy[..., :1]).expand(*noisy.shape[:-1], delay)
            delayed = torch.cat([late, noisy], dim=-1)
            late = delayed[..., delayed.shape[-1] - delay :].clone()
        with past.piece(is_last=section.is_last):
            new = run(noisy, delayed[..., : noisy.shape[-1]])
        surplus = min(delay - skipped, new.shape[-1])
        new, skipped = new[..., surplus:], skipped + surplus
        output = new if output is None else torch.cat([output, new], dim=-1)
        end = received if section.is_last else max(written, (begin + output.shape[-1] - edge) * hop)
        if end > written:
            wave = stft.inverse(output, length=end - begin * hop)
            yield wave[..., written - begin * hop :]
            written = end
        if section.is_last:
            return
        kept = max(0, min(output.shape[-1], begin + output.shape[-1] - (written // hop - edge)))
        begin, output = begin + output.shape[-1] - kept, output[..., output.shape[-1] - kept :].clone()
