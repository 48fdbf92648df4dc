"""Lists the files that a command enhances, and the names of the results."""

from __future__ import annotations

import csv
import glob
import io
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiozen_core.audio.listing import absolute_path, list_audio
from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import DataError
from audiozen_core.inference.formats import FORMATS
from audiozen_core.storage.audio_suffixes import AUDIO_SUFFIXES

# The column of a manifest with the paths of the files, as in the corpora of the recipes.
_COLUMN = "file"
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_MANIFESTS = (*_DELIMITERS, ".txt", ".lst", ".scp")
_LOSSLESS = ("wav", "flac", "aiff", "aif", "w64", "caf")


@dataclass(frozen=True, slots=True)
class Job:
    """One file to enhance.

    Attributes:
        source: the file.
        target: the file to write.
        name: the path within the input folder without the extension, like the ID in a prediction.
    """

    source: Path
    target: Path
    name: str


def list_jobs(inputs: Sequence[str], output: Path, form: str | None = None) -> list[Job]:
    """Returns the files to enhance.

    Results have the same relative path as their input. A lossless format of the input is kept if it is supported; other
    formats become WAV. If files differ only in their extensions, the results keep the extensions: `a.mp3.wav`. Files in
    the output folder are not inputs.

    Args:
        inputs: files, folders, patterns such as `*.wav`, and manifests: a CSV or TSV file with the column `file`, or a
            text file with a path in each line, relative to the manifest.
        output: the folder of the results; or the file, if there is one input.
        form: the extension of the results, such as `flac`.

    Raises:
        DataError: an input does not exist, or has no audio; results would replace inputs, because the output folder is
            the input folder; the output folder can't be created, because a file is in the way; or the format of the
            output file is not supported or contradicts `form`.
    """
    if form is not None and form not in FORMATS:
        raise DataError(f"the format `{form}` is not supported", remedy=f"use one of {', '.join(FORMATS)}")
    found: dict[Path, Path] = {}  # absolute path -> path relative to the input folder
    for given in inputs:
        for path, relative in _files(given, output):
            found.setdefault(absolute_path(path), relative)
    ending = output.suffix.lower().removeprefix(".")
    if output.suffix.lower() in AUDIO_SUFFIXES and ending not in FORMATS and not output.exists():
        raise DataError(f"the format of `{output}` is not supported", remedy=f"use one of {', '.join(FORMATS)}")
    if ending in FORMATS and not output.is_dir():
        if form is not None and FORMATS[form] != FORMATS[ending]:
            raise DataError(
                f"`{output}` and the format `{form}` contradict each other",
                remedy="leave out `--format`, or give a folder",
            )
        if len(found) != 1:
            raise DataError(
                f"`{output}` is the name of one file, but there are {len(found)} inputs", remedy="give a folder"
            )
        ((source, relative),) = found.items()
        jobs = [Job(source, output, relative.with_suffix("").as_posix())]
    else:
        targets = _targets(list(found.values()), form)
        jobs = [
            Job(source, output / target, relative.with_suffix("").as_posix())
            for (source, relative), target in zip(found.items(), targets, strict=True)
        ]
    _check_folder(jobs[0].target.parent if len(jobs) == 1 else output)
    remaining = Inputs(found)
    for job in jobs:
        remaining.check_remain(job.target, job.source)
    return jobs


class Inputs:
    """The inputs of a command, which results must not replace.

    Args:
        paths: the files. Both the path of a link and the file that it points to are an input.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._places: dict[str, list[str]] = {}
        for place in {place for path in paths for place in (_place(path), os.path.realpath(path))}:
            self._places.setdefault(_fold(Path(place)), []).append(place)

    def check_remain(self, result: Path, source: Path) -> None:
        """Raises a `DataError` if the file of a result would replace an input.

        Args:
            result: the file of the result.
            source: the input of the result.
        """
        own = _place(result)
        for place in self._places.get(_fold(Path(own)), ()):
            # Some file systems do not distinguish `a.wav` from `A.WAV`.
            if place == own or (os.path.exists(own) and os.path.samefile(place, own)):  # noqa: PTH110, PTH121
                raise DataError(
                    f"the result of `{source}` would replace the input `{result}`",
                    remedy="give another output",
                )


def _check_folder(folder: Path) -> None:
    """Raises a `DataError` if a file is in the way of a folder that will be created."""
    in_the_way = next((path for path in (folder, *folder.parents) if path.exists()), None)
    if in_the_way is not None and not in_the_way.is_dir():
        raise DataError(
            f"the output folder `{folder}` can't be created, because `{in_the_way}` is a file",
            remedy="give another output folder",
        )


def _files(given: str, output: Path) -> Iterator[tuple[Path, Path]]:
    """Yields the files of one input, each with the relative path that its result keeps."""
    if not given.strip():
        raise DataError("the name of an input is empty", remedy="check whether a shell variable is unset")
    path = Path(given).expanduser()
    if os.path.isdir(path):  # noqa: PTH112 - a name that is too long is not an error
        results = _as_listed(output, path)
        inside = [file for file in list_audio(path) if not _is_in(file, results) or _is_in(path, results)]
        if not inside:
            raise DataError(f"the folder `{path}` has no audio except the results", remedy="give another folder")
        yield from ((file, file.relative_to(path)) for file in inside)
    elif os.path.exists(path):  # noqa: PTH110
        if path.suffix.lower() in _MANIFESTS:
            yield from _together(_listed(path))
        else:
            yield path, Path(path.name)
    elif matches := [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]:  # noqa: PTH207 - any root
        yield from _together([match for match in matches if match.is_file() and not _is_in(match, output)])
    else:
        what = "no file matches" if glob.has_magic(given) else "no file or folder is called"
        raise DataError(f"{what} `{given}`", remedy=f"relative paths are resolved from `{Path.cwd()}`")


def _listed(manifest: Path) -> list[Path]:
    text = manifest.read_text(encoding="utf-8-sig", errors="surrogateescape")
    suffix = manifest.suffix.lower()
    if suffix in _DELIMITERS:
        # A quoted path may contain a line break.
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=_DELIMITERS[suffix])
        columns = list(rows.fieldnames or ())
        if _COLUMN not in columns:
            raise DataError(
                f"`{manifest}` has no column `{_COLUMN}`; it has {listed(map(repr, columns)) or 'none'}",
                remedy=f"name the column of the paths `{_COLUMN}`, and separate columns by "
                f"{'commas' if suffix == '.csv' else 'tabs'}",
            )
        lines = [row[_COLUMN] for row in rows if row[_COLUMN]]
    else:
        # In a Kaldi list, an ID precedes the path.
        is_scp = suffix == ".scp"
        lines = [line.split(maxsplit=1)[-1] if is_scp else line for line in text.splitlines() if line.strip()]
    if not lines:
        raise DataError(f"`{manifest}` lists no files", remedy="write one path in each line")
    return [manifest.parent / Path(line.strip()).expanduser() for line in lines]


def _together(files: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Yields files with their paths relative to the deepest folder that contains all files."""
    if files:
        root = os.path.commonpath([absolute_path(file).parent for file in files])
        yield from ((file, absolute_path(file).relative_to(root)) for file in files)


def _targets(files: Sequence[Path], form: str | None) -> list[Path]:
    """Returns the path of each result, relative to the output folder."""
    endings = [file.suffix.lower().removeprefix(".") for file in files]
    new = [file.with_suffix(f".{form or (end if end in _LOSSLESS else 'wav')}") for file, end in zip(files, endings)]  # noqa: B905
    count = Counter(map(_fold, new))
    targets: list[Path] = []
    used: set[str] = set()
    for file, target in zip(files, new, strict=True):
        # Files with the same relative path come from different inputs, so their results are numbered.
        candidates = [target] if count[_fold(target)] == 1 else [file.with_name(file.name + target.suffix)]
        number = 1
        while _fold(candidates[-1]) in used:
            number += 1
            candidates.append(candidates[0].with_stem(f"{candidates[0].stem}~{number}"))
        used.add(_fold(candidates[-1]))
        targets.append(candidates[-1])
    return targets


def _fold(path: Path) -> str:
    """Normalises a path, so that names that some file systems don't distinguish become equal."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path.as_posix()).casefold())


def _is_in(path: Path, folder: Path) -> bool:
    return absolute_path(path).is_relative_to(absolute_path(folder))


def _as_listed(output: Path, folder: Path) -> Path:
    """Returns the path of an output folder as a list of the files of a folder has it, even if links lead to both."""
    real_output, real_folder = Path(os.path.realpath(output)), Path(os.path.realpath(folder))
    return folder / real_output.relative_to(real_folder) if real_output.is_relative_to(real_folder) else output


def _place(path: Path) -> str:
    """Returns a path with its folder resolved, but without following a link of the file itself."""
    return os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118
