"""The file is written by several processes, by one that is killed, on a full disk, and while it is locked."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from audiozen import AudioZenError

from audiozen_plugin_sqlite import database as module
from audiozen_plugin_sqlite.database import Database, connect

# Writes a run, and records of 200 scalars each. Prints a line after each transaction.
WRITER = """
import sys
from pathlib import Path
from audiozen_plugin_sqlite.database import Database

folder, count = sys.argv[2], int(sys.argv[3])
database = Database(Path(sys.argv[1]), timeout=60)
run = "INSERT INTO runs (folder, experiment, seed, monitor, higher_is_better, epoch, step, created, updated) " \\
    "VALUES (?, '', 0, '', 1, 0, 0, '', '')"

def record(step):
    def change(connection):
        number = connection.execute("INSERT INTO records (run, epoch, step, time) SELECT id, 1, ?, '' FROM runs "
            "WHERE folder = ?", (step, folder)).lastrowid
        for index in range(200):
            connection.execute("INSERT INTO scalars VALUES (?, ?, ?)", (number, f"scalar_{index}", step))
    return change

assert database.write(lambda connection: connection.execute(run, (folder,))) is None
for step in range(count):
    assert database.write(record(step)) is None
    print(step, flush=True)
assert database.close() == 0
"""


def start(file, folder, count):
    command = [sys.executable, "-c", WRITER, str(file), folder, str(count)]
    # The process must find the plugin wherever this one has found it.
    environment = {**os.environ, "PYTHONPATH": str(Path(module.__file__).parents[1])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def steps(file, folder):
    """Returns the steps of the records of a run. Each record must be complete."""
    query = """SELECT records.step, count(*), sum(value) FROM scalars JOIN records ON record = records.id
        JOIN runs ON run = runs.id WHERE folder = ? GROUP BY records.id ORDER BY records.id"""
    rows = connect(file).execute(query, (folder,)).fetchall()
    assert all((count, total) == (200, 200 * step) for step, count, total in rows)
    return [step for step, *_ in rows]


def test_several_processes_write_at_the_same_time(tmp_path):
    writers = [start(tmp_path / "runs.sqlite", folder, 30) for folder in "abc"]
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    assert [steps(tmp_path / "runs.sqlite", folder) for folder in "abc"] == [list(range(30))] * 3


def test_a_process_that_is_killed_leaves_all_that_it_has_committed(tmp_path):
    with start(tmp_path / "runs.sqlite", "a", 100_000) as writer:
        last = [int(writer.stdout.readline()) for _ in range(20)][-1]
        writer.kill()
    found = steps(tmp_path / "runs.sqlite", "a")
    assert found == list(range(len(found)))
    assert len(found) > last
    assert connect(tmp_path / "runs.sqlite").execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def add_config(text):
    return lambda connection: connection.execute("INSERT INTO configs VALUES (1, '', 'train', 0, ?)", (text,))


def configs(file):
    return [text for (text,) in connect(file).execute("SELECT toml FROM configs ORDER BY rowid")]


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "runs.sqlite", timeout=0)
    run = "INSERT INTO runs VALUES (1, 'a', '', 0, '', 1, NULL, NULL, 0, 0, NULL, NULL, '', '')"
    assert database.write(lambda connection: connection.execute(run), add_config("first")) is None
    return database


def test_nothing_is_lost_on_a_full_disk(database):
    (pages,) = database._connection.execute("PRAGMA page_count").fetchone()
    database._connection.execute(f"PRAGMA max_page_count = {pages}")
    large = "x" * 100_000
    assert "full" in str(database.write(add_config(large)))
    assert "full" in str(database.write(add_config("third")))
    assert configs(database.path) == ["first"]
    database._connection.execute("PRAGMA max_page_count = 1000000")
    assert database.write(add_config("fourth")) is None
    assert configs(database.path) == ["first", large, "third", "fourth"]
    assert database.close() == 0


def test_nothing_is_lost_while_another_process_locks_the_file(database):
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert "locked" in str(database.write(add_config("second")))
    other.execute("ROLLBACK")
    assert database.close() == 0
    assert configs(database.path) == ["first", "second"]


def test_changes_that_could_never_be_written_are_counted(database):
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    database.write(add_config("second"), add_config("third"))
    assert database.close() == 2


def test_a_file_that_is_not_a_database_is_an_error(tmp_path):
    (tmp_path / "runs.sqlite").write_text("a text that is long enough to be a header of a file, but is none" * 9)
    with pytest.raises(AudioZenError, match=r"runs.sqlite` can't be opened: file is not a database"):
        Database(tmp_path / "runs.sqlite")


def test_a_file_of_another_version_is_an_error(database):
    database.write(lambda connection: connection.execute("PRAGMA user_version = 7"))
    with pytest.raises(AudioZenError, match="tables of version 7"):
        Database(database.path)


def test_reading_does_not_create_a_file(tmp_path):
    with pytest.raises(AudioZenError, match="can't be opened"):
        connect(tmp_path / "runs.sqlite")
    assert not list(tmp_path.iterdir())
