"""Reads the metadata of installed distributions from their folders.

`importlib.metadata` could do this, but importing it takes longer than the rest of `audiozen --help`, and it parses
every file that it reads. It is only used for distributions in archives.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

Reader = Callable[[str], str | None]
"""Returns the text of one metadata file, such as `entry_points.txt`, or None if there is no such file."""

_SUFFIXES = (".dist-info", ".egg-info")


def installed_metadata(search_path: Iterable[str]) -> Iterator[tuple[str, Reader]]:
    """Every distribution on a search path: where its metadata is, and how to read it.

    If a distribution is found more than once, the first counts, as for an import.

    Args:
        search_path: the entries of a `sys.path`.
    """
    seen: set[str] = set()
    for entry in dict.fromkeys(search_path):
        for name, place, read in _below(entry):
            if name not in seen:
                seen.add(name)
                yield place, read


def normalised(distribution: str) -> str:
    """The normalised name of a distribution, by which package indexes compare names.

    >>> normalised("Acme_Losses")
    'acme-losses'
    """
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _below(entry: str) -> Iterator[tuple[str, str, Reader]]:
    try:
        names = sorted(name for name in os.listdir(entry or ".") if name.endswith(_SUFFIXES))  # noqa: PTH208 - quicker
    except NotADirectoryError:
        yield from _in_archive(entry)
        return
    except OSError:
        return
    for name in names:
        folder = os.path.join(entry, name)  # noqa: PTH118
        yield normalised(name.rpartition(".")[0].partition("-")[0]), folder, _reader(folder)


def _reader(folder: str) -> Reader:
    def read(name: str) -> str | None:
        try:
            return Path(folder, name).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None

    return read


def _in_archive(entry: str) -> Iterator[tuple[str, str, Reader]]:
    from importlib.metadata import distributions

    for distribution in distributions(path=[entry]):
        yield normalised(distribution.metadata["Name"] or ""), entry, distribution.read_text
