"""The file of ratings that a listener downloads from a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiozen_core.errors import DataError
from audiozen_core.listening.key import Key, read_json
from audiozen_core.listening.methods import Scale

KIND = "audiozen ratings"
FORMAT = 1
_WHAT = "a file of ratings, which a listener has downloaded from the page"


@dataclass(frozen=True, slots=True)
class Ratings:
    """The ratings of one listener.

    Attributes:
        path: the file.
        page: the ID of the page.
        listener: the name that the listener has chosen.
        complete: whether the listener has come to the end.
        values: by the name of the recording in the page and the name of the scale, the rating.
    """

    path: Path
    page: str
    listener: str
    complete: bool
    values: Mapping[str, Mapping[str, int]]


def find_ratings(paths: Sequence[str | Path]) -> list[Path]:
    """Returns the files that are named, and those called `ratings_….json` in the folders that are named.

    Raises:
        DataError: a folder has no such file.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        files = sorted(path.glob("ratings_*.json")) if path.is_dir() else [path]
        if not files:
            raise DataError(
                f"the folder `{path}` has no file of ratings", remedy="they are called `ratings_PAGE_LISTENER.json`"
            )
        found += files
    return list(dict.fromkeys(found))


def read_ratings(path: Path) -> Ratings:
    """Reads a file of ratings. Whether they fit to a page is checked by `check_ratings`.

    Raises:
        DataError: the file can't be read, is something else, or was changed.
    """
    content = read_json(path, _WHAT)
    if content.get("kind") != KIND:
        raise DataError(f"`{path}` is not {_WHAT}", remedy="name the files that are called `ratings_….json`")
    if content.get("format") != FORMAT:
        raise DataError(
            f"`{path}` has the format {content.get('format')!r}, but this version of AudioZEN reads {FORMAT}",
            remedy="use the version that made the page",
        )
    try:
        values: dict[str, dict[str, int]] = {}
        for trial in content["trials"]:
            for token, scales in trial["ratings"].items():
                if token in values:
                    raise DataError(f"`{path}` rates the recording `{token}` twice", remedy=_remedy(path))
                values[token] = dict(scales)
        found = Ratings(path, content["page"], content["listener"], content["complete"], values)
        texts = [found.page, found.listener, content["check"], *(name for of in values.values() for name in of)]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"`{path}` lacks a part or was changed: {error!r}", remedy=_remedy(path)) from error
    if not all(isinstance(text, str) for text in texts) or not found.listener or found.complete not in (True, False):
        raise DataError(f"`{path}` was changed: a name is not a text", remedy=_remedy(path))
    for token, name, value in _each(values):
        if not isinstance(value, int) or isinstance(value, bool):
            raise DataError(
                f"`{path}` has {value!r} as {name} of `{token}`, which is not a whole number", remedy=_remedy(path)
            )
    if content["check"] != checksum(values):
        raise DataError(
            f"`{path}` was changed: its ratings don't have the checksum that the page has written", remedy=_remedy(path)
        )
    return found


def check_ratings(ratings: Ratings, key: Key) -> None:
    """Checks that ratings are of a page, and in the range of its scales.

    Raises:
        DataError: they are not.
    """
    if ratings.page != key.page:
        raise DataError(
            f"`{ratings.path}` has the ratings of the page `{ratings.page}`, but the key is that of `{key.page}`",
            remedy="compare the ratings of one page, with the key that was written beside this page",
        )
    scales: dict[str, Scale] = {scale.name: scale for scale in key.method.scales}
    for token, name, value in _each(ratings.values):
        if token not in key.stimuli or name not in scales:
            raise DataError(
                f"`{ratings.path}` rates `{name}` of the recording `{token}`, which the page does not have",
                remedy=_remedy(ratings.path),
            )
        scale = scales[name]
        if not scale.low <= value <= scale.high:
            raise DataError(
                f"`{ratings.path}` has the rating {value} as {name} of `{token}`; it goes from {scale.low} to "
                f"{scale.high}",
                remedy=_remedy(ratings.path),
            )


def checksum(values: Mapping[str, Mapping[str, int]]) -> str:
    """Returns the FNV-1a hash of all ratings, as the page computes it. It finds accidents, not forgeries."""
    lines = sorted(f"{token} {name} {value}" for token, name, value in _each(values))
    found = 0x811C9DC5
    for byte in "\n".join(lines).encode():
        found = (found ^ byte) * 0x01000193 & 0xFFFFFFFF
    return f"{found:08x}"


def _each(values: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, Any]]:
    return ((token, name, value) for token, of in values.items() for name, value in of.items())


def _remedy(path: Path) -> str:
    return f"ask the listener for `{path.name}` again, as the page has saved it"
