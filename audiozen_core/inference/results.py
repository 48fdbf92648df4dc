"""Results of files: how they are encoded in memory, written piece by piece, and put in their places."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import Tensor

from audiozen_core.audio.files import AudioInfo
from audiozen_core.audio.writing import AudioWriter, encode_pieces, not_writable, warn_if_clipped, write_pieces
from audiozen_core.errors import RunError
from audiozen_core.inference.formats import Format
from audiozen_core.storage.atomic import Digest, hash_file, make_folder, temporary_name, write_whole


@dataclass(frozen=True, slots=True)
class EnhancedFile:
    """The result of `Enhancer.enhance_file`.

    Attributes:
        paths: the files. There are several if the network returns several signals.
        frames: the number of samples in each channel.
        sr: the sample rate, in hertz.
        clipped: the number of samples that exceeded full scale and were clipped.
    """

    paths: tuple[Path, ...]
    frames: int
    sr: int
    clipped: int

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return self.frames / self.sr


def write_result(pieces: Iterable[Tensor], target: Path, info: AudioInfo, form: Format) -> EnhancedFile:
    """Writes enhanced pieces [channels, time] or [channels, signals, time]; see `Enhancer.enhance_file`."""
    opener = partial(write_pieces, sr=info.sr, form=form.name, subtype=form.subtype, frames=info.frames)
    writers = _fill(pieces, target, opener)
    return EnhancedFile(
        tuple(writer.path for writer in writers), info.frames, info.sr, sum(one.clipped for one in writers)
    )


def _fill(
    pieces: Iterable[Tensor], target: Path, open_writer: Callable[..., AbstractContextManager[AudioWriter]]
) -> list[AudioWriter]:
    """Opens a writer for each signal of the pieces, writes all pieces, and closes the writers."""
    stream = iter(pieces)
    # The first piece shows the number of signals.
    first = next(stream)
    signals = first.shape[1] if first.ndim == 3 else 0
    with ExitStack() as stack:
        writers = [stack.enter_context(open_writer(path, channels=len(first))) for path in _paths(target, signals)]
        for piece in itertools.chain([first], stream):
            for number, writer in enumerate(writers):
                writer.write(piece[:, number] if signals else piece)
    return writers


def _paths(target: Path, signals: int) -> list[Path]:
    return [target.with_stem(f"{target.stem}_{number + 1}") for number in range(signals)] or [target]


@dataclass(frozen=True, slots=True)
class EnhancedResult:
    """An enhanced signal that has not been encoded yet.

    Attributes:
        pieces: the signal [channels, time] or [channels, signals, time], in pieces.
        target: the file to write.
        info: the facts about the input file.
        form: the format of the result.
    """

    pieces: Sequence[Tensor]
    target: Path
    info: AudioInfo
    form: Format

    def encode(self) -> EncodedResult:
        """Encodes the files in memory. Raises a `DataError` if the format does not support the signal."""
        info, form = self.info, self.form
        opener = partial(encode_pieces, sr=info.sr, form=form.name, subtype=form.subtype, frames=info.frames)
        writers = _fill(self.pieces, self.target, opener)
        files = tuple(EncodedFile(one.path, one.content, one.clipped, one.peak) for one in writers)
        return EncodedResult(files, info.frames, info.sr, samples=info.frames * len(self.pieces[0]))

    def write(self) -> tuple[EnhancedFile, Sequence[Digest]]:
        """Encodes and writes the files; see `EncodedResult.write`."""
        return self.encode().write()


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """A file that has not been written yet: its bytes, and how many samples were clipped; see `AudioWriter`."""

    path: Path
    content: bytes
    clipped: int
    peak: float


@dataclass(frozen=True, slots=True)
class EncodedResult:
    """A result whose files have been encoded, but not written yet.

    Attributes:
        files: the files.
        frames: the number of samples in each channel.
        sr: the sample rate, in hertz.
        samples: the number of samples of all channels of a file.
    """

    files: tuple[EncodedFile, ...]
    frames: int
    sr: int
    samples: int

    def write(self) -> tuple[EnhancedFile, Sequence[Digest]]:
        """Writes each file completely or not at all. The caller syncs the folders.

        Returns:
            The result, and the size and the hash of each file.

        Raises:
            DataError: a file can't be written.
        """
        digests = []
        for file in self.files:
            try:
                make_folder(file.path.parent)
                digests.append(write_whole(file.path, file.content, syncs_folder=False))
            except OSError as error:
                raise not_writable(file.path, error) from error
            warn_if_clipped(file.path, file.clipped, self.samples, file.peak)
        clipped = sum(file.clipped for file in self.files)
        return EnhancedFile(tuple(file.path for file in self.files), self.frames, self.sr, clipped), digests


@dataclass(frozen=True, slots=True)
class StoredResult:
    """The result of a long file, which was written piece by piece under a temporary name.

    Attributes:
        written: the temporary files.
        targets: the path of each of them in the end.
    """

    written: EnhancedFile
    targets: tuple[Path, ...]

    def write(self) -> tuple[EnhancedFile, Sequence[Digest]]:
        """Puts the files in their places. The caller syncs the folders. The result is as in `EncodedResult.write`."""
        digests = []
        for path, target in zip(self.written.paths, self.targets, strict=True):
            try:
                path.replace(target)
                with target.open("rb") as file:
                    digests.append(hash_file(file))
            except OSError as error:
                raise RunError(f"`{target}` can't be written: {error.strerror}") from error
        return replace(self.written, paths=self.targets), digests


def store_result(pieces: Iterable[Tensor], target: Path, info: AudioInfo, form: Format) -> StoredResult:
    """Writes the result of a long file, so that its pieces need not be kept in memory.

    If the process dies, the next command removes the temporary file.
    """
    temporary = target.with_name(temporary_name(target.name))
    written = write_result(pieces, temporary, info, form)
    signals = 0 if written.paths == (temporary,) else len(written.paths)
    return StoredResult(written, tuple(_paths(target, signals)))
