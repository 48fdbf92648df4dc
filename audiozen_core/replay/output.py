"""Writes the output folder of `audiozen replay`, with audio, pictures and numbers, completely or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from audiozen_core.audio.spectrogram_picture import draw_sheet, png
from audiozen_core.audio.writing import write_audio
from audiozen_core.diagnostics.printable import fit_for_file, printable
from audiozen_core.errors import RunError
from audiozen_core.replay.samples import BatchSample
from audiozen_core.results.files import write_json
from audiozen_core.storage.atomic import (
    make_folder,
    make_new_folder,
    remove,
    rename,
    sync_folder,
    temporary_name,
    write_whole,
)

_UNSAFE = re.compile(r"[^\w.\-]+")


def check_replaceable(folder: Path, marker: str) -> None:
    """Checks that a folder does not exist, is empty, or was written by an earlier call of the same command.

    Args:
        folder: the folder.
        marker: the name of a file that identifies folders written by this command.

    Raises:
        RunError: the path exists, is not an empty folder, and has no `marker`.
    """
    if folder.is_dir() and ((folder / marker).is_file() or not any(folder.iterdir())):
        return
    if folder.exists() or folder.is_symlink():
        raise RunError(
            f"`{folder}` already exists, but this command did not write it: it has no `{marker}`",
            remedy="choose another folder with -o",
        )


@contextmanager
def whole_folder(folder: Path, marker: str) -> Iterator[Path]:
    """Provides a temporary folder that is renamed to `folder` at the end of the block. It replaces an existing folder.

    Raises:
        RunError: the folder contains other files, or can't be written. The existing folder stays unchanged.
    """
    check_replaceable(folder, marker)
    temporary = folder.with_name(temporary_name(folder.name))
    try:
        make_folder(folder.parent)
        make_new_folder(temporary)
        yield temporary
        earlier = folder.with_name(temporary_name(folder.name)) if folder.exists() else None
        if earlier is not None:
            rename(folder, earlier)
        rename(temporary, folder)
        sync_folder(folder.parent)
        if earlier is not None:
            remove(earlier)
    except OSError as error:
        raise RunError(
            f"`{folder}` can't be written: {error.strerror or error}",
            remedy="check the free disk space and the permissions, or choose another folder with -o",
        ) from error
    finally:
        with suppress(OSError):
            if temporary.exists():
                remove(temporary)


def write_batch_samples(folder: Path, samples: Sequence[BatchSample]) -> list[dict[str, Any]]:
    """Writes the waveforms of each sample without scaling (WAV, 32-bit floats), and a picture of their spectrograms.

    The spectrograms of a sample have a common colour scale.

    Args:
        folder: an existing folder.
        samples: the samples.

    Returns:
        A description of each sample as data for `json.dumps`, including the names of its files.
    """
    width = len(str(max(len(samples) - 1, 0)))
    entries = []
    for index, sample in enumerate(samples):
        start = f"{index:0{width}}_{_UNSAFE.sub('-', sample.id).strip('-.')}".rstrip("_")
        start = fit_for_file(start)
        waves = {}
        for name, wave in sample.waves.items():
            file = fit_for_file(f"{start}_{_UNSAFE.sub('-', name)}") + ".wav"
            write_audio(folder / file, wave.finite, wave.sr, encoding="float")
            waves[name] = {"file": file, **wave.described()}
        drawn = {name: wave.samples for name, wave in sample.waves.items() if len(wave.samples)}
        picture = f"{start}.png" if drawn else None
        if picture:
            sr = next(iter(sample.waves.values())).sr
            write_whole(folder / picture, png(draw_sheet(drawn, sr), fast=True))
        entry: dict[str, Any] = {"index": index, "id": printable(sample.id), "picture": picture, "waves": waves}
        entries.append({**entry, "values": {name: _printable(value) for name, value in sample.values.items()}})
    return entries


def write_numbers(folder: Path, marker: str, content: Mapping[str, Any]) -> None:
    """Writes the numbers as JSON into the file called `marker`."""
    write_json(folder / marker, content)


def _printable(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value
