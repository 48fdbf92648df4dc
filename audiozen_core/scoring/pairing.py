"""Pairs the files to rate with their clean, noisy and far-end files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from audiozen_core.audio.listing import list_audio
from audiozen_core.diagnostics.listed import listed
from audiozen_core.diagnostics.printable import printable
from audiozen_core.errors import DataError
from audiozen_core.results.result_folders import find_audio

RATED = "enhanced"
"""The role of the files to rate. The other roles are `clean`, `noisy` and `far_end`."""


@dataclass(frozen=True, slots=True)
class PairedFile:
    """A file to rate, and the clean, noisy and far-end files that belong to it.

    Attributes:
        id: the path of the file within its folder, without the extension.
        paths: the files by role: `enhanced`, `clean`, `noisy`, `far_end`.
    """

    id: str
    paths: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Pairing:
    """The files to rate.

    Attributes:
        files: the files, sorted by ID.
        folders: the folder of each role.
        findings: messages about the folders, such as which files are left out.
    """

    files: tuple[PairedFile, ...]
    folders: Mapping[str, Path]
    findings: tuple[str, ...] = ()


def pair_files(
    enhanced: str | Path, partners: Mapping[str, str | Path | None], *, allow_missing: bool = False
) -> Pairing:
    """Pairs the files of several folders by their relative paths without extensions.

    If two folders have no relative path in common, their files are paired by name alone. A test writes all its files
    into one folder: `a_enhanced.wav` belongs to `a_clean.wav` and `a_noisy.wav`. Files in other folders may also have
    names that end in `_enhanced`, `_clean` and so on.

    Args:
        enhanced: the folder of the files to rate; or a run, or the result folder of a test, which also contains the
            clean and the noisy files.
        partners: the folder of each other role (`clean`, `noisy`, `far_end`), or None.
        allow_missing: whether to leave out a file that lacks its clean, noisy or far-end file, instead of raising an
            error.

    Raises:
        DataError: a folder is missing or has no audio; two files differ only in their extensions; a file lacks its
            clean, noisy or far-end file.
        RunError: the run has no finished test with audio.
    """
    rated_folder, folders = _folders(Path(enhanced), partners)
    rated = {_without(RATED, key): path for key, path in _list(rated_folder, RATED, folders).items()}
    partner_paths: dict[str, dict[str, Path]] = {}
    findings: list[str] = []
    missing: list[str] = []
    complete = set(rated)
    for kind, folder in folders.items():
        files = _list(folder, kind, {})
        # Either this is the result folder of a test, or the user gave one folder twice, to rate the noisy files.
        if folder == rated_folder:
            files = {key: path for key, path in files.items() if key.endswith(f"_{kind}")} or files
        matched = {key: name for key in rated if (name := _partner(key, kind, files)) is not None}
        if not matched:
            matched = _by_name(rated, files, kind, folder)
            if matched:
                findings.append(
                    f"the files of `{rated_folder}` and `{folder}` are paired by name, because the folders have "
                    "different subfolders"
                )
        partner_paths[kind] = {key: files[name] for key, name in matched.items()}
        without = [key for key in rated if key not in matched]
        unused = sorted(files.keys() - set(matched.values()))
        if without:
            missing.append(f"{len(without)} of {len(rated)} files have no {kind} file in `{folder}`: {listed(without)}")
        if unused:
            missing.append(f"{len(unused)} {kind} files have no file in `{rated_folder}`: {listed(unused)}")
        complete &= matched.keys()
    if missing and not (allow_missing and complete):
        raise DataError(
            "some files have no partner file",
            notes=[f"missing: {line}" for line in missing],
            remedy="give the files of a pair the same relative path, apart from the extension"
            + ", or leave out files without a partner with `--allow-missing`" * bool(complete),
        )
    findings += [f"{line} (left out)" for line in missing]
    names = sorted(complete)
    files_of = [
        PairedFile(printable(key), {RATED: rated[key], **{kind: paths[key] for kind, paths in partner_paths.items()}})
        for key in names
    ]
    return Pairing(tuple(files_of), {RATED: rated_folder, **folders}, tuple(map(printable, findings)))


def _folders(enhanced: Path, partners: Mapping[str, str | Path | None]) -> tuple[Path, dict[str, Path]]:
    """Returns the folder of the files to rate, and the folder of each other role."""
    folders = {kind: find_audio(Path(folder)) or Path(folder) for kind, folder in partners.items() if folder}
    audio = find_audio(enhanced)
    if audio is None:
        return enhanced, folders
    names = [path.stem for path in list_audio(audio)]
    if not any(name.endswith(f"_{RATED}") for name in names):
        raise DataError(
            f"`{audio}` has no file whose name ends in `_{RATED}`",
            remedy="give the folder of the files to rate instead, and the folder of the clean files with `--clean`",
        )
    for kind in ("clean", "noisy"):
        if kind not in folders and any(name.endswith(f"_{kind}") for name in names):
            folders[kind] = audio
    return audio, folders


def _list(folder: Path, kind: str, others: Mapping[str, Path]) -> dict[str, Path]:
    """Returns the audio files of a folder by their relative paths without extensions.

    Subfolders that are listed in `others` are skipped.
    """
    inner = [other for other in others.values() if other != folder and other.resolve().is_relative_to(folder.resolve())]
    paths = [
        path
        for path in list_audio(folder)
        if not any(path.resolve().is_relative_to(other.resolve()) for other in inner)
    ]
    if kind == RATED and any(path.stem.endswith(f"_{RATED}") for path in paths):
        paths = [path for path in paths if path.stem.endswith(f"_{RATED}")]
    files: dict[str, list[Path]] = {}
    for path in paths:
        files.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    if twice := [same for same in files.values() if len(same) > 1]:
        raise DataError(
            f"several files in `{folder}` differ only in their extensions: "
            f"{listed(' and '.join(path.name for path in same) for same in twice)}",
            remedy="keep one file for each name: files are paired by their paths without extensions",
        )
    if not files:
        raise DataError(
            f"the folder `{folder}` has no audio files apart from those of the other folders",
            remedy="give another folder",
        )
    return {key: same[0] for key, same in files.items()}


def _without(kind: str, key: str) -> str:
    return key.removesuffix(f"_{kind}")


def _partner(key: str, kind: str, files: Mapping[str, Path]) -> str | None:
    """Returns the key of the file that belongs to a rated file: the same path, or the path with `_` and the role."""
    return next((name for name in (key, f"{key}_{kind}") if name in files), None)


def _by_name(rated: Mapping[str, Path], files: Mapping[str, Path], kind: str, folder: Path) -> dict[str, str]:
    """Pairs files by their names alone.

    Raises:
        DataError: a name that both folders have exists in several subfolders of one folder.
    """
    names: dict[str, list[str]] = {}
    for key in files:
        names.setdefault(_without(kind, PurePosixPath(key).name), []).append(key)
    counts: dict[str, list[str]] = {}
    for key in rated:
        counts.setdefault(PurePath(key).name, []).append(key)
    several = [name for name, keys in counts.items() if name in names and len(keys) + len(names[name]) > 2]
    if several:
        raise DataError(
            f"the files of `{folder}` can't be paired by their names, because {len(several)} names exist in several "
            f"subfolders: {listed(several)}",
            remedy="give both folders the same subfolders",
        )
    return {keys[0]: names[name][0] for name, keys in counts.items() if name in names}
