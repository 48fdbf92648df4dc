"""Results of files: how they are encoded in memory, written piece by piece, and put in their places."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from audiozen_core.audio.files import AudioInfo
from audiozen_core.audio.writing import AudioWriter, encode_pieces, not_writable, warn_if_clipped, write_pieces
from audiozen_core.inference.formats import Format
from audiozen_core.inference.inputs import Inputs
from audiozen_core.storage.atomic import Digest, hash_file, make_folder, sync_folder, temporary_name, write_new


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


def write_result(
    pieces: Iterable[Tensor], target: Path, info: AudioInfo, form: Format, *, source: Path
) -> EnhancedFile:
    """Writes enhanced pieces [channels, time] or [channels, signals, time]; see `Enhancer.enhance_file`."""
    stored = store_result(pieces, target, info, form)
    with stored.removed_on_error():
        for path in stored.paths:
            Inputs([source]).check_remain(path, source)
    written = stored.place()
    try:
        sync_folder(target.parent)
    except OSError as error:
        raise not_writable(target, error) from error
    return written


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

    def store(self) -> StoredResult:
        """Encodes the files, and writes them under temporary names."""
        return self.encode().store()


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

    def store(self) -> StoredResult:
        """Writes the files under temporary names. Raises a `DataError` if a file can't be written."""
        stored = []
        with _all_removed_on_error() as temporaries:
            for file in self.files:
                temporaries.append(file.path.with_name(temporary_name(file.path.name)))
                try:
                    make_folder(file.path.parent)
                    digest = write_new(temporaries[-1], file.content)
                except OSError as error:
                    raise not_writable(file.path, error) from error
                stored.append(StoredFile(file.path, temporaries[-1], file.clipped, file.peak, digest))
        return StoredResult(tuple(stored), self.frames, self.sr, self.samples)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that was written as `temporary`; the other attributes are as in `EncodedFile`.

    The digest of a file that was written piece by piece is None, because libsndfile goes back to its header.
    """

    path: Path
    temporary: Path
    clipped: int
    peak: float
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result whose files are on the disk, under temporary names; see `EncodedResult`.

    All files are complete before the first one gets its name. Otherwise a full disk could leave a part of a result in
    the place of an older one.
    """

    files: tuple[StoredFile, ...]
    frames: int
    sr: int
    samples: int

    @property
    def paths(self) -> list[Path]:
        """The final names of the files."""
        return [file.path for file in self.files]

    @contextmanager
    def removed_on_error(self) -> Iterator[None]:
        """Removes the temporary files if the block raises an error."""
        with _all_removed_on_error(file.temporary for file in self.files):
            yield

    def digests(self) -> list[Digest]:
        """Returns the size and the hash of each file. Raises a `DataError` if a file can't be read again."""
        return [file.digest or _digest_of(file) for file in self.files]

    def place(self) -> EnhancedFile:
        """Gives the files their names, and warns about clipped samples. The caller syncs the folder.

        Raises:
            DataError: a file can't be renamed. Then all files of the result are removed.
        """
        with _all_removed_on_error(file.temporary for file in self.files) as placed:
            # Otherwise an old signal would be replaced before the rename of the next one fails.
            if folder := next(filter(os.path.isdir, self.paths), None):
                raise not_writable(folder, IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))
            for file in self.files:
                try:
                    file.temporary.replace(file.path)
                except OSError as error:
                    raise not_writable(file.path, error) from error
                placed.append(file.path)
        for file in self.files:
            warn_if_clipped(file.path, file.clipped, self.samples, file.peak)
        clipped = sum(file.clipped for file in self.files)
        return EnhancedFile(tuple(file.path for file in self.files), self.frames, self.sr, clipped)


def _digest_of(file: StoredFile) -> Digest:
    try:
        with file.temporary.open("rb") as content:
            return hash_file(content)
    except OSError as error:
        raise not_writable(file.path, error) from error


def store_result(
    pieces: Iterable[Tensor], target: Path, info: AudioInfo, form: Format, owner: int | None = None
) -> StoredResult:
    """Writes a result piece by piece under temporary names, so that a long file need not be kept in memory.

    Args:
        pieces: the enhanced signal [channels, time] or [channels, signals, time].
        target: the file to write.
        info: the facts about the input file.
        form: the format of the result.
        owner: the ID of the process that will place the files, if it is another one. The temporary files are kept as
            long as this process is alive.

    Raises:
        DataError: a file can't be written.
    """
    temporaries: dict[Path, Path] = {}

    def opener(path: Path, channels: int) -> AbstractContextManager[AudioWriter]:
        temporaries[path] = path.with_name(temporary_name(path.name, owner))
        return write_pieces(
            path, info.sr, channels=channels, form=form.name, subtype=form.subtype, frames=info.frames,
            temporary=temporaries[path],
        )  # fmt: skip

    # The files are named when the first piece shows the number of signals.
    with _all_removed_on_error(temporaries.values()):
        writers = _fill(pieces, target, opener)
    files = tuple(StoredFile(one.path, temporaries[one.path], one.clipped, one.peak) for one in writers)
    return StoredResult(files, info.frames, info.sr, samples=info.frames * writers[0].channels)


@contextmanager
def _all_removed_on_error(files: Iterable[Path] = ()) -> Iterator[list[Path]]:
    """Yields a list for more files. If the block raises an error, all files are removed.

    A part of a result has no record, so the next command would take it for a file of the user and refuse to replace it.
    """
    more: list[Path] = []
    try:
        yield more
    except BaseException:
        for path in (*files, *more):
            with suppress(OSError):
                path.unlink(missing_ok=True)
        raise
