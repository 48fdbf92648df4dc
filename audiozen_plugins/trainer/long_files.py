"""Enhances files of any length. Short files are enhanced as a whole, and longer files in chunks that overlap."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from audiozen_core.audio.chunks import DEFAULT_CHUNK, DEFAULT_OVERLAP, chunk_samples, in_chunks, join_pieces
from audiozen_core.errors import RunError


def chunk_error(chunk_seconds: float | None, overlap_seconds: float | None) -> tuple[str, RunError] | None:
    """Returns the name of the wrong argument and an error; None if both arguments are valid."""
    chunk = DEFAULT_CHUNK if chunk_seconds is None else chunk_seconds
    overlap = DEFAULT_OVERLAP * chunk if overlap_seconds is None else overlap_seconds
    if not (0 < chunk < math.inf and 2 * overlap <= chunk):
        return "overlap_seconds" if chunk_seconds is None else "chunk_seconds", RunError(
            f"`chunk_seconds` is {chunk}{' by default' if chunk_seconds is None else ''}, but must be finite, above 0, "
            f"and at least twice `overlap_seconds`{f', {overlap}' if overlap_seconds is not None else ''}",
            remedy="set a larger `chunk_seconds` in [trainer.args], such as 10, or a smaller `overlap_seconds`",
        )
    return None


class LongFiles:
    """Enhances files, and cuts files that are longer than a chunk into chunks. A trainer defines `enhance_batch`.

    Attributes:
        restarts: whether the user set `chunk_seconds`. If so, a network that could carry its state from chunk to chunk
            also starts anew in each chunk.
    """

    sr: int
    hop_length: int

    def _set_chunks(self, chunk_seconds: float | None, overlap_seconds: float | None) -> None:
        if wrong := chunk_error(chunk_seconds, overlap_seconds):
            raise wrong[1]
        self.restarts = chunk_seconds is not None
        seconds = DEFAULT_CHUNK if chunk_seconds is None else chunk_seconds
        self._chunk, self._overlap = chunk_samples(seconds, overlap_seconds, sr=self.sr, hop=self.hop_length)

    def align(self, earlier: Tensor, later: Tensor) -> Tensor:
        """Returns the chunk `later`, changed so that it continues `earlier`, the end of the previous chunk.

        Here, nothing is changed. The trainer `separation` sorts the speakers.
        """
        return later

    def enhance_batch(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """Returns the enhanced waveforms [batch, time] and their spectra.

        The second value is None if the network computes no spectra.
        """
        raise NotImplementedError

    def enhance_file(self, file: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """Enhances one file [1, time], in chunks if it is longer than a chunk.

        Returns:
            The enhanced waveform and its spectrum, as `enhance_batch` returns them. The spectrum is None if the file
            was enhanced in chunks. If `chunk_seconds` is set, it is None for short files, too, so that the loss
            compares the same quantity for all files.
        """
        noisy = file["noisy"]
        if self._is_whole(file):
            # The network may change its input in place, but the noisy signal is needed later.
            return self.enhance_batch({**file, "noisy": noisy.clone()})
        return join_pieces(self.enhance_pieces(file, [noisy]), noisy.shape[-1]), None

    def _is_whole(self, file: Mapping[str, Any]) -> bool:
        """Returns whether a file [1, time] is enhanced as a whole."""
        return not self.restarts and file["noisy"].shape[-1] <= self._chunk

    def enhance_blocks(self, blocks: Iterable[Tensor], names: Sequence[str]) -> Iterator[Tensor]:
        """Enhances signals of any length, in bounded memory. `Enhancer` calls this method.

        Args:
            blocks: the signals [batch, time] on the device of the network, in blocks of any length.
            names: a name for each signal, which is used as the ID of the signal.

        Yields:
            The enhanced signals in pieces [batch, time] or [batch, speakers, time]. All pieces together have as many
            samples as the blocks.
        """
        yield from self.enhance_pieces({"id": list(names)}, blocks)

    def enhance_pieces(self, file: Mapping[str, Any], blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Enhances a signal that comes in blocks [batch, time]. `file` has the other entries of the batch."""
        # The network may change its input in place, but the noisy signal is needed later.
        return in_chunks(
            lambda noisy: self.enhance_batch({**file, "noisy": noisy.clone()})[0],
            blocks,
            chunk=self._chunk,
            overlap=self._overlap,
            align=self.align,
        )
