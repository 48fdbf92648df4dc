"""The errors for audio files whose bytes disagree with their header, with a command that repairs the file."""

from __future__ import annotations

import shlex
from pathlib import Path

from audiozen_core.errors import DataError


def damage_error(path: Path, why: str) -> DataError:
    """Returns the error for a file that ends too early or can't be decoded."""
    return DataError(
        f"`{path}` is truncated or damaged: {why}", remedy="download or create the file again, or leave it out"
    )


def decoding_error(path: Path, why: str, form: str) -> DataError:
    """Returns the error for a file that libsndfile can't decode.

    Args:
        path: the file.
        why: what libsndfile says.
        form: the format. The remedy for FLAC covers files that were cut out of another file. In these files, the frame
            numbers are wrong, so libsndfile can't find the frames, but ffmpeg can.
    """
    error = damage_error(path, f"it can't be decoded ({why.strip().rstrip('.')})")
    if form != "FLAC":
        return error
    remedy = f"if it was cut out of another file without encoding it again (`-c copy`), encode it: {ffmpeg(path)}"
    return DataError(error.message, remedy=f"{remedy}; otherwise {error.remedy}")


def header_error(path: Path, why: str, *, options: str = "") -> DataError:
    """Returns the error for a file that holds more audio than its header says. ffmpeg can read all of the audio.

    Args:
        path: the file.
        why: what the header says and what the file holds.
        options: options of ffmpeg for the input.
    """
    return DataError(f"`{path}` has a wrong header: {why}", remedy=f"convert it: {ffmpeg(path, options)}")


def joined_files_error(path: Path, at: int) -> DataError:
    """Returns the error for several files in one. Decoders stop after the first file, or lose audio at the seam.

    Args:
        path: the file.
        at: the byte at which the second file begins.
    """
    name, first, rest = (
        shlex.quote(str(part)) for part in (path.name, f"{path.stem}_1{path.suffix}", f"{path.stem}_2{path.suffix}")
    )
    return DataError(
        f"`{path}` consists of several files, joined byte by byte: the second one begins at byte {at}",
        remedy=f"split it: head -c {at} {name} > {first}; tail -c +{at + 1} {name} > {rest}",
    )


def uncounted_bytes_error(path: Path, announced: int, at: int, more: int) -> DataError:
    """Returns the error for further bytes after the announced samples. These bytes may or may not be samples.

    Args:
        path: the file.
        announced: the number of bytes of samples that the header announces.
        at: the position of the first further byte.
        more: the number of further bytes.
    """
    name = shlex.quote(path.name)
    remedy = f"if they are not samples, cut them off: head -c {at} {name} > {shlex.quote(f'repaired/{path.name}')}"
    if path.suffix.lower() in (".wav", ".wave"):
        remedy += f"; if they are: {ffmpeg(path, '-ignore_length 1')}"
    return DataError(
        f"`{path}` has a wrong header: it announces {announced} bytes of samples, but {more} more bytes follow",
        remedy=remedy,
    )


def tag_error(path: Path, size: int) -> DataError:
    """Returns the error for a tag of `size` bytes before a header that must be the first thing in the file."""
    name, repaired = shlex.quote(path.name), shlex.quote(f"repaired/{path.name}")
    return DataError(
        f"`{path}` begins with an ID3 tag, so its length can't be compared with its header",
        remedy=f"cut the tag off: tail -c +{size + 1} {name} > {repaired}",
    )


def unverifiable_error(path: Path, form: str) -> DataError:
    """Returns the error for a file whose format does not show whether the file is complete."""
    name, converted = shlex.quote(path.name), shlex.quote(f"converted/{path.stem}.wav")
    return DataError(
        f"`{path}` has the format {form}, which does not show whether a file is complete",
        remedy=f"listen to its end, and convert it: {ffmpeg(path, folder='converted')} or, if ffmpeg does not know the "
        f"format, sox {name} {converted}",
    )


def ffmpeg(path: Path, options: str = "", folder: str = "repaired", output: str = "") -> str:
    """Returns the command that decodes a file to a WAV file in another folder."""
    parts = ("ffmpeg", options, "-i", shlex.quote(path.name), output, shlex.quote(f"{folder}/{path.stem}.wav"))
    return " ".join(filter(None, parts))
