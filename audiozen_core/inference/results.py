"""Results of files: how they are encoded in memory, written piece by piece, and put in their places."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from audiozen_core.audio.files import AudioInfo
from audiozen_core.audio.writing import AudioWriter, encode_pieces, not_writable, warn_if_clipped, write_pieces
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
        return EncodedResult(files, info.frames, info.sr, samples=info.frames * writers[0].channels)

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
        """Writes all files, or none if one of them can't be written. The caller syncs the folders.

        Returns:
            The result, and the size and the hash of each file.

        Raises:
            DataError: a file can't be written.
        """
        digests = []
        with _removed_on_error() as placed:
            for file in self.files:
                try:
                    make_folder(file.path.parent)
                    digests.append(write_whole(file.path, file.content, syncs_folder=False))
                except OSError as error:
                    raise not_writable(file.path, error) from error
                placed.append(file.path)
        return _completed(self), digests


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that was written as `temporary`; the other attributes are as in `EncodedFile`."""

    path: Path
    temporary: Path
    clipped: int
    peak: float


@dataclass(frozen=True, slots=True)
class StoredResult:
    """The result of a long file, which was written piece by piece under a temporary name; see `EncodedResult`."""

    files: tuple[StoredFile, ...]
    frames: int
    sr: int
    samples: int

    def write(self) -> tuple[EnhancedFile, Sequence[Digest]]:
        """Puts the files in their places, as `EncodedResult.write` does."""
        digests = []
        with _removed_on_error(file.temporary for file in self.files) as placed:
            for file in self.files:
                try:
                    file.temporary.replace(file.path)
                    placed.append(file.path)
                    with file.path.open("rb") as content:
                        digests.append(hash_file(content))
                except OSError as error:
                    raise not_writable(file.path, error) from error
        return _completed(self), digests


def store_result(pieces: Iterable[Tensor], target: Path, info: AudioInfo, form: Format) -> StoredResult:
    """Writes the result of a long file, so that its pieces need not be kept in memory.

    If the process dies, the next command removes the temporary files.
    """
    temporaries: dict[Path, Path] = {}

    def opener(path: Path, channels: int) -> AbstractContextManager[AudioWriter]:
        temporaries[path] = path.with_name(temporary_name(path.name))
        return write_pieces(
            path, info.sr, channels=channels, form=form.name, subtype=form.subtype, frames=info.frames,
            temporary=temporaries[path],
        )  # fmt: skip

    # The files are named when the first piece shows the number of signals.
    with _removed_on_error(temporaries.values()):
        writers = _fill(pieces, target, opener)
    files = tuple(StoredFile(one.path, temporaries[one.path], one.clipped, one.peak) for one in writers)
    return StoredResult(files, info.frames, info.sr, samples=info.frames * writers[0].channels)


def _completed(result: EncodedResult | StoredResult) -> EnhancedFile:
    for file in result.files:
        warn_if_clipped(file.path, file.clipped, result.samples, file.peak)
    clipped = sum(file.clipped for file in result.files)
    return EnhancedFile(tuple(file.path for file in result.files), result.frames, result.sr, clipped)


@contextmanager
def _removed_on_error(files: Iterable[Path] = ()) -> Iterator[list[Path]]:
    """Yields a list for more files. If the block raises an error, all files are removed.

    A part of a result has no record, so the next command would take it for a file of the user and refuse to replace it.
    """
    placed: list[Path] = []
    try:
        yield placed
    except BaseException:
        for path in (*files, *placed):
            with suppress(OSError):
                path.unlink(missing_ok=True)
        raise
