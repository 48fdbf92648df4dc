"""Names the distribution whose code has raised an error, so that the user knows whom to tell."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from audiozen_core.errors import AudioZenError
from audiozen_core.registry.entry import FIRST_PARTY, Entry

_RAISED_IN = "raised in: "


@contextmanager
def name_owners(used: Collection[tuple[str, Entry]]) -> Iterator[None]:
    """Adds a note to an `AudioZenError` whose cause was raised in the code of a plugin: the plugin's distribution.

    Args:
        used: the components that the experiment uses, each with its path.
    """
    try:
        yield
    except AudioZenError as error:
        # The notes have the file even if the error was raised in another process, where a data set was read.
        files = [note.removeprefix(_RAISED_IN) for note in error.notes if note.startswith(_RAISED_IN)]
        for owner in sorted({entry.origin for _, entry in used if any(_has(entry, file) for file in files)}):
            note = f"distribution: {owner}"
            if note not in error.notes:
                error.notes = (*error.notes, note)
        raise


def _has(entry: Entry, file: str) -> bool:
    """Returns whether a file, given as `file:line, in function`, belongs to the package of a plugin's component."""
    if entry.distribution == FIRST_PARTY:
        return False
    package = sys.modules.get(entry.value.partition(":")[0].partition(".")[0].strip())
    folders = [f"{Path(folder)}/" for folder in getattr(package, "__path__", ())]
    module = getattr(package, "__file__", None)
    return file.startswith((*folders, f"{module}:")) if module or folders else False
