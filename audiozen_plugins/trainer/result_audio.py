"""Writes the audio files of a test and a prediction while the network enhances them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from torch import Tensor

from audiozen_core.audio.writing import SUBTYPES, AudioWriter, write_pieces
from audiozen_core.logging import get_logger
from audiozen_core.scoring.blocks import all_finite


class _NotFiniteError(Exception):
    """A wave has NaN or infinity."""


def write_finite(
    pieces: Iterable[Mapping[str, Tensor]],
    path_of: Callable[[str], Path],
    *,
    sr: int,
    encoding: Literal["pcm_16", "float"],
    frames: int,
) -> bool:
    """Writes several waves, each to its own file, piece by piece.

    If one of them contains NaN or infinity, no file is written, and a warning is logged.

    Args:
        pieces: dicts with the next samples [time] of each wave. The keys are the ends of the file names.
        path_of: returns the path of a file from the end of its name.
        sr: the sample rate, in hertz.
        encoding: how the samples are written; see `write_audio`.
        frames: the number of samples of each wave.

    Returns:
        Whether the files were written.

    Raises:
        DataError: a file can't be written.
    """
    writers: dict[str, AudioWriter] = {}
    try:
        with ExitStack() as stack:
            for waves in pieces:
                for end, wave in waves.items():
                    if end not in writers:
                        file = write_pieces(path_of(end), sr, subtype=SUBTYPES[encoding], frames=frames)
                        writers[end] = stack.enter_context(file)
                    if not all_finite(wave):
                        raise _NotFiniteError(writers[end].path.name)
                    writers[end].write(wave)
    except _NotFiniteError as error:
        get_logger().warning(f"`{error}` is not written, because it contains NaN or infinity")
        return False
    return True
