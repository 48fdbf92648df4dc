"""Finds and reads the metadata of installed distributions.

`importlib.metadata` is not used, because it is slow: importing it takes longer than the rest of `audiozen --help`, and
it parses every file that it reads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

_SEPARATORS = re.compile(r"[-_.]+")
_SUFFIXES = (".dist-info", ".egg-info")


def metadata_folders(search_path: Iterable[str]) -> Iterator[str]:
    """Yields the metadata folder of every distribution on a `sys.path`.

    If a distribution is found more than once, only the first is used, as in an import.
    """
    seen: set[str] = set()
    for entry in dict.fromkeys(search_path):
        try:
            names = sorted(os.listdir(entry or "."))  # noqa: PTH208 - quicker
        except OSError:
            continue
        for name in names:
            if name.endswith(_SUFFIXES) and (distribution := distribution_of(name)) not in seen:
                seen.add(distribution)
                yield f"{entry}{os.sep}{name}" if entry else name


def distribution_of(folder: str) -> str:
    """Returns the normalised name of the distribution that a metadata folder belongs to.

    >>> distribution_of("site-packages/Acme_Losses-1.0.dist-info")
    'acme-losses'
    """
    return normalised(os.path.basename(folder).rpartition(".")[0].partition("-")[0])  # noqa: PTH119 - quicker


def read_metadata(folder: str, name: str) -> str:
    """Returns the text of one metadata file, such as `entry_points.txt`; "" if the file does not exist."""
    try:
        # Using a `Path`, a buffer and text mode would double the time of `audiozen --help`.
        with open(f"{folder}{os.sep}{name}", "rb", buffering=0) as file:  # noqa: PTH123 - quicker
            return file.read().decode("utf-8-sig")  # some editors write a BOM
    except (FileNotFoundError, NotADirectoryError):
        return ""


def installed_version(distribution: str, search_path: Iterable[str]) -> str | None:
    """Returns the version of the distribution with a normalised name; None if the distribution is not installed.

    Raises:
        OSError: the metadata of the distribution can't be read.
    """
    for folder in metadata_folders(search_path):
        if distribution_of(folder) == distribution:
            text = read_metadata(folder, "METADATA") or read_metadata(folder, "PKG-INFO")
            return next((line[8:].strip() for line in text.splitlines() if line.startswith("Version:")), "")
    return None


def normalised(distribution: str) -> str:
    """Returns the normalised name of a distribution. Names with the same normalised form mean the same distribution.

    >>> normalised("Acme_Losses")
    'acme-losses'
    """
    return _SEPARATORS.sub("-", distribution).lower()
