"""Compares listing a folder of 100,000 audio files with `Path.rglob`, which finds files in all subfolders, too.

The files are empty, and 100 subfolders have 1,000 files each. AudioZEN's first list is measured without a cached one,
and the next list is the cached one. The operating system has cached the folders.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from unittest import mock

from audiozen_core.audio.listing import scan_audio
from benchmarks.measuring import Row, alternate, cpu_seconds, row_of

FOLDERS, FILES = 100, 1_000


def rows(rounds: int = 5) -> list[Row]:
    """Measures one row for the first list, and one row for the next list."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "audio"
        for number in range(FOLDERS):
            place = folder / str(number)
            place.mkdir(parents=True)
            for file in range(FILES):
                (place / f"{file}.wav").touch()
        time.sleep(2.5)  # AudioZEN does not cache the list of a folder that has changed only a moment ago
        next_lists = []

        def listed() -> float:
            """Returns the CPU time of the first list, and notes that of the next list."""
            with mock.patch.dict(os.environ, {"XDG_CACHE_HOME": tempfile.mkdtemp(dir=folder.parent)}):
                first = cpu_seconds(lambda: scan_audio(folder))
                next_lists.append(cpu_seconds(lambda: scan_audio(folder)))
            return first

        def globbed() -> float:
            return cpu_seconds(lambda: sorted(folder.rglob("*.wav")))

        first, others = alternate(listed, {"Path.rglob": globbed}, rounds=rounds, warm_up=0)

    def row(what: str, ours: list[float]) -> Row:
        what = f"{FOLDERS * FILES:,} files in {FOLDERS} folders, {what}"
        return row_of(what, ours, "Path.rglob", others["Path.rglob"], unit="ms of CPU", goal=None, scale=1000)

    return [row("first list", first), row("list of a later start", next_lists)]
