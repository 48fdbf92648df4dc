"""The SQLite file: its tables, and a connection that keeps changes that can't be written at the moment."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from audiozen import AudioZenError

Change = Callable[[sqlite3.Connection], object]

_VERSION = 1
_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS runs (
        id INTEGER PRIMARY KEY,
        folder TEXT NOT NULL UNIQUE,  -- the run folder, relative to the folder of this file
        experiment TEXT NOT NULL,
        seed INTEGER NOT NULL,
        monitor TEXT NOT NULL,  -- the scalar of the validation that decides which epoch is the best
        higher_is_better INTEGER NOT NULL,
        status TEXT,  -- running, finished, stopped, interrupted or failed; NULL without a training run
        reason TEXT,  -- why it is no longer running
        epoch INTEGER NOT NULL,
        step INTEGER NOT NULL,
        best_epoch INTEGER,
        best_score REAL,
        created TEXT NOT NULL,  -- all times are in UTC, in ISO 8601
        updated TEXT NOT NULL
    )""",
    """
    CREATE TABLE IF NOT EXISTS configs (
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        time TEXT NOT NULL,
        mode TEXT NOT NULL,
        step INTEGER NOT NULL,  -- the step at which the run started with this config
        toml TEXT NOT NULL
    )""",
    """
    CREATE TABLE IF NOT EXISTS records (  -- one for each line in metrics.jsonl
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        epoch INTEGER NOT NULL,
        step INTEGER NOT NULL,
        checkpoint TEXT,  -- the checkpoint that was evaluated; NULL during a training run
        time TEXT NOT NULL
    )""",
    """
    CREATE TABLE IF NOT EXISTS scalars (
        record INTEGER NOT NULL REFERENCES records ON DELETE CASCADE,
        name TEXT NOT NULL,
        value REAL,  -- NULL if the number is not finite
        PRIMARY KEY (record, name)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS records_of_run ON records (run, step)",
    """
    CREATE VIEW IF NOT EXISTS history AS
        SELECT experiment, folder, records.epoch, records.step, name, value, time
        FROM scalars JOIN records ON record = records.id JOIN runs ON run = runs.id WHERE checkpoint IS NULL
    """,
    """
    CREATE VIEW IF NOT EXISTS results AS
        SELECT experiment, folder, checkpoint, records.epoch, records.step, name, value, time
        FROM scalars JOIN records ON record = records.id JOIN runs ON run = runs.id WHERE checkpoint IS NOT NULL
    """,
)


class Database:
    """Writes changes into the file. Each call writes all of its changes or none.

    If the file can't be written, because the disk is full or another process has locked it for long, the changes are
    kept in memory and written before later changes.

    Args:
        path: the path of the file; the file is created if it does not exist.
        timeout: how many seconds to wait while another process is writing. After a failure, later calls do not wait
            until a write succeeds.

    Raises:
        AudioZenError: the file can't be opened, or is not one of this plugin.
    """

    def __init__(self, path: Path, timeout: float = 5.0) -> None:
        self.path = path
        self.timeout = timeout
        self._pending: list[Change] = []
        self._connection = connect(path, timeout=timeout, create=True)

    def write(self, *changes: Change) -> sqlite3.Error | None:
        """Writes changes in one transaction. If that fails, returns the error and keeps them."""
        self._pending += changes
        try:
            with _transaction(self._connection):
                for change in self._pending:
                    change(self._connection)
        except sqlite3.Error as error:
            self._wait_at_most(0)
            return error
        self._pending.clear()
        self._wait_at_most(self.timeout)
        return None

    def close(self) -> int:
        """Closes the file. Returns how many changes could not be written and are lost."""
        if self._pending:
            self.write()
        self._connection.close()
        return len(self._pending)

    def _wait_at_most(self, seconds: float) -> None:
        self._connection.execute(f"PRAGMA busy_timeout = {round(1000 * seconds)}")


def connect(path: Path, *, timeout: float = 5.0, create: bool = False) -> sqlite3.Connection:
    """Opens the file.

    Args:
        path: the file.
        timeout: how many seconds to wait while another process is writing.
        create: whether to create the file and its tables if they do not exist.

    Raises:
        AudioZenError: the file does not exist, can't be opened, or is not one of this plugin.
    """
    # `rw` does not create a file. It can roll back the unfinished transaction of a killed process, which `ro` can't.
    mode = "rwc" if create else "rw"
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", timeout, uri=True, isolation_level=None)
        connection.execute("PRAGMA foreign_keys = ON")
        version = _version(connection)
        if version == 0 and create:
            with _transaction(connection):
                for statement in (*_TABLES, f"PRAGMA user_version = {_VERSION}"):
                    connection.execute(statement)
            version = _version(connection)
    except sqlite3.Error as error:
        raise AudioZenError(
            f"`{path}` can't be opened: {error}", remedy="give an SQLite file that you may write to"
        ) from error
    if version != _VERSION:
        connection.close()
        raise AudioZenError(
            f"`{path}` has tables of version {version}, but audiozen-plugin-sqlite needs version {_VERSION}",
            remedy="give another file, or install the version of the plugin that has written it",
        )
    return connection


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commits at the end, or changes nothing if there is an error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # on a full disk SQLite may have rolled back already
            connection.execute("ROLLBACK")
        raise
