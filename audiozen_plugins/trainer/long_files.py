"""Enhances files of any length, whole or in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from audiozen_core.audio.chunks import DEFAULT_CHUNK, chunk_error, chunk_samples, in_chunks, joined


class LongFiles:
    """Enhances files, and divides a file that is longer than a chunk. A trainer defines `enhance_batch`.

    Attributes:
        restarts: whether the user set `chunk_seconds`. The network then starts from its initial state in each chunk.
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
        """Returns the chunk `later` in a form that continues `earlier`, the end of the chunk before."""
        return later

    def enhance_batch(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """Returns the enhanced waveforms [batch, time] and their spectra; None if the network has none."""
        raise NotImplementedError

    def enhance_file(self, file: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """Enhances one file [1, time], in pieces if it is longer than a chunk.

        Returns:
            The enhanced waveform and its spectrum, as `enhance_batch` returns them. The spectrum is None for a file in
            pieces. With `chunk_seconds`, it is None for short files, too, so that the loss compares the same quantity
            for all files.
        """
        noisy = file["noisy"]
        if self._is_whole(file):
            # A part of a network that a trainer calls by itself may change its input, which is used later.
            return self.enhance_batch({**file, "noisy": noisy.clone()})
        return joined(self.enhance_pieces(file, [noisy]), noisy.shape[-1]), None

    def _is_whole(self, file: Mapping[str, Any]) -> bool:
        """Returns whether a file [1, time] is enhanced as a whole instead of in pieces."""
        return not self.restarts and file["noisy"].shape[-1] <= self._chunk

    def enhance_blocks(self, blocks: Iterable[Tensor], names: Sequence[str]) -> Iterator[Tensor]:
        """Enhances signals of any length, in bounded memory. `Enhancer` uses a trained network in this way.

        Args:
            blocks: the signals [batch, time] on the device of the network, in blocks of any length.
            names: a name for each signal. The names take the place of the IDs of files.

        Yields:
            The enhanced signals in pieces [batch, time] or [batch, speakers, time]. All pieces together have as many
            samples as the blocks.
        """
        yield from self.enhance_pieces({"id": list(names)}, blocks)

    def enhance_pieces(self, file: Mapping[str, Any], blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Enhances the blocks [batch, time] of a signal. `file` has the other entries of the batch, such as `id`."""
        # A part of a network that a trainer calls by itself may change its input, which is used later.
        return in_chunks(
            lambda noisy: self.enhance_batch({**file, "noisy": noisy.clone()})[0],
            blocks,
            chunk=self._chunk,
            overlap=self._overlap,
            align=self.align,
        )
