"""Caches scores on disk. The key of a score depends on the content of the signals and on the metric."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from audiozen_core.logging import get_logger

FILE = "scores.sqlite"
_SECONDS_BETWEEN_WRITES = 1.0
_WAIT_SECONDS = 30.0  # how long to wait while another process writes
_MOST_KEYS = 500  # the most keys in one query


@dataclass(frozen=True, slots=True)
class CachedScore:
    """The value of a metric for one file. If the value is NaN, `reason` says why; it is "" if the reason is unknown."""

    value: float
    reason: str = ""


class ScoreCache:
    """Stores scores in an SQLite file, by key. Several processes can use the file at the same time.

    SQLite writes each batch of scores completely or not at all. If the file can't be read or written, for example
    because the disk is full, the cache logs one warning and stores nothing from then on.

    Args:
        folder: the folder of the SQLite file; None disables the cache. The folder can be deleted at any time.
    """

    def __init__(self, folder: Path | None) -> None:
        self.file = None if folder is None else folder / FILE
        self._connection: sqlite3.Connection | None = None
        self._written = time.monotonic()
        self._pending: dict[str, CachedScore] = {}
        if self.file is None:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.file, timeout=_WAIT_SECONDS)
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS scores (key TEXT PRIMARY KEY, value REAL, reason TEXT)"
            )
            self._connection.commit()
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def find(self, keys: Iterable[str]) -> dict[str, CachedScore]:
        """Returns the cached scores by key."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, CachedScore] = {}
        try:
            for start in range(0, len(wanted) if self._connection else 0, _MOST_KEYS):
                batch = wanted[start : start + _MOST_KEYS]
                assert self._connection is not None
                rows = self._connection.execute(
                    f"SELECT key, value, reason FROM scores WHERE key IN ({','.join('?' * len(batch))})", batch
                )
                found |= {key: CachedScore(math.nan if value is None else value, reason) for key, value, reason in rows}
        except sqlite3.Error as error:
            self._give_up(error)
        return found

    def keep(self, key: str, score: CachedScore) -> None:
        """Stores a score. Scores are written to disk about once a second, and by `close`.

        A NaN without a reason is not stored, because its cause may be temporary. For example, a program that the metric
        calls may have been killed.
        """
        if self._connection is not None and (score.reason or not math.isnan(score.value)):
            self._pending[key] = score
            if time.monotonic() - self._written > _SECONDS_BETWEEN_WRITES:
                self.write()

    def write(self) -> None:
        """Writes the pending scores to disk. Other processes wait only while this method writes."""
        self._written = time.monotonic()
        rows = [(key, score.value, score.reason) for key, score in self._pending.items()]
        self._pending = {}
        if self._connection is None or not rows:
            return
        try:
            with self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", rows)
        except sqlite3.Error as error:
            self._give_up(error)

    def close(self) -> None:
        """Writes the pending scores to disk, and closes the file."""
        self.write()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _give_up(self, error: Exception) -> None:
        get_logger().warning(
            f"the cache of scores `{self.file}` can't be used: {error}",
            remedy="check the free disk space, or delete the file; the scores are computed without the cache",
        )
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
