"""Reads the ratings file that a listener downloads from a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiozen_core.errors import DataError
from audiozen_core.listening.answer_key import AnswerKey, read_json
from audiozen_core.listening.methods import Scale

KIND = "audiozen ratings"
FORMAT = 1
_WHAT = "a ratings file, which a listener downloaded from the page"


@dataclass(frozen=True, slots=True)
class Ratings:
    """The ratings of one listener.

    Attributes:
        path: the ratings file.
        page: the ID of the page.
        listener: the name that the listener chose.
        complete: whether the listener finished the test.
        values: the ratings, by the name of the recording in the page and the name of the scale.
    """

    path: Path
    page: str
    listener: str
    complete: bool
    values: Mapping[str, Mapping[str, int]]


def find_ratings(paths: Sequence[str | Path]) -> list[Path]:
    """Expands folders to the ratings files in them, and removes duplicates.

    Args:
        paths: ratings files, or folders with files called `ratings_….json`.

    Raises:
        DataError: a folder has no ratings file.
    """
    all_files: list[Path] = []
    for path in map(Path, paths):
        files = sorted(path.glob("ratings_*.json")) if path.is_dir() else [path]
        if not files:
            raise DataError(
                f"the folder `{path}` has no ratings file",
                remedy="give a folder with files called `ratings_PAGE_LISTENER.json`",
            )
        all_files += files
    return list(dict.fromkeys(all_files))


def read_ratings(path: Path) -> Ratings:
    """Reads a ratings file. `check_ratings` checks whether the ratings belong to a page.

    Raises:
        DataError: the file can't be read, is not a ratings file, or was changed.
    """
    content = read_json(path, _WHAT)
    if content.get("kind") != KIND:
        raise DataError(f"`{path}` is not {_WHAT}", remedy="give the files called `ratings_….json`")
    if content.get("format") != FORMAT:
        raise DataError(
            f"`{path}` has the format {content.get('format')!r}, but this version of AudioZEN reads {FORMAT}",
            remedy="use the version of AudioZEN that made the page",
        )
    try:
        values: dict[str, dict[str, int]] = {}
        for trial in content["trials"]:
            for token, scales in trial["ratings"].items():
                if token in values:
                    raise DataError(f"`{path}` rates the recording `{token}` twice", remedy=_remedy(path))
                values[token] = dict(scales)
        ratings = Ratings(path, content["page"], content["listener"], content["complete"], values)
        scale_names = [name for scales in values.values() for name in scales]
        texts = [ratings.page, ratings.listener, content["check"], *scale_names]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"`{path}` is incomplete or was changed: {error!r}", remedy=_remedy(path)) from error
    are_texts = all(isinstance(text, str) for text in texts)
    if not are_texts or not ratings.listener or ratings.complete not in (True, False):
        raise DataError(
            f"`{path}` was changed: a name is not text, the listener is empty, or `complete` is not a boolean",
            remedy=_remedy(path),
        )
    for token, name, value in _each(values):
        if not isinstance(value, int) or isinstance(value, bool):
            raise DataError(
                f"`{path}` has {value!r} as {name} of `{token}`, which is not an integer", remedy=_remedy(path)
            )
    if content["check"] != checksum(values):
        raise DataError(
            f"`{path}` was changed: the checksum of the page does not match the ratings", remedy=_remedy(path)
        )
    return ratings


def check_ratings(ratings: Ratings, key: AnswerKey) -> None:
    """Checks that ratings belong to a page and are within the range of the page's scales.

    Raises:
        DataError: a rating belongs to another page or recording, or is out of range.
    """
    if ratings.page != key.page:
        raise DataError(
            f"`{ratings.path}` has ratings of the page `{ratings.page}`, but the key belongs to the page `{key.page}`",
            remedy="only compare ratings of one page, with the key next to this page",
        )
    scales: dict[str, Scale] = {scale.name: scale for scale in key.method.scales}
    for token, name, value in _each(ratings.values):
        if token not in key.stimuli or name not in scales:
            raise DataError(
                f"`{ratings.path}` rates `{name}` of the recording `{token}`, but the page has no such rating",
                remedy=_remedy(ratings.path),
            )
        scale = scales[name]
        if not scale.low <= value <= scale.high:
            raise DataError(
                f"`{ratings.path}` has the rating {value} as {name} of `{token}`, but ratings must be from {scale.low} "
                f"to {scale.high}",
                remedy=_remedy(ratings.path),
            )


def checksum(values: Mapping[str, Mapping[str, int]]) -> str:
    """Returns the FNV-1a hash of all ratings, as computed by the page. It detects accidental changes, not forgery."""
    lines = sorted(f"{token} {name} {value}" for token, name, value in _each(values))
    fnv = 0x811C9DC5
    for byte in "\n".join(lines).encode():
        fnv = (fnv ^ byte) * 0x01000193 & 0xFFFFFFFF
    return f"{fnv:08x}"


def _each(values: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, Any]]:
    return ((token, name, value) for token, scales in values.items() for name, value in scales.items())


def _remedy(path: Path) -> str:
    return f"ask the listener to send `{path.name}` again, unchanged"
