"""A table is read from its file as it was written, without a copy for each process."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from audiozen_core.storage.mapped_table import MappedTable

STRINGS = ["one", "", "zwölf", os.fsdecode(b"caf\xe9"), "two\nlines", "\0", ""]


@pytest.fixture
def table() -> MappedTable:
    table = MappedTable({"sr": 16000, "list": ["ä", 1.5, None]}, {"frames": np.arange(7) * 2**40, "none": np.empty(0)})
    table.add_text("name", STRINGS)
    table.add_text("nothing", [])
    return table


@pytest.fixture
def file(table: MappedTable, tmp_path: Path) -> Path:
    table.write(tmp_path / "a.table")
    return tmp_path / "a.table"


def test_a_table_is_read_as_it_was_written(table, file):
    read = MappedTable.read(file)
    assert read.facts == table.facts
    assert read.arrays.keys() == table.arrays.keys()
    for name, array in table.arrays.items():
        assert read.arrays[name].dtype == array.dtype
        assert np.array_equal(read.arrays[name], array)
    names = read.text("name")
    assert list(names) == STRINGS == names[:]
    assert [names[place - len(STRINGS)] for place in range(len(STRINGS))] == STRINGS
    assert names[1:-1:2] == STRINGS[1:-1:2]
    assert (len(names), list(read.text("nothing"))) == (7, [])
    with pytest.raises(IndexError):
        names[7]


def test_a_mapped_table_can_not_be_changed(file):
    with pytest.raises(ValueError, match="read-only"):
        MappedTable.read(file).arrays["frames"][0] = 1


@pytest.mark.parametrize("size", [0, 5, 17, 30, 300, -1])
def test_an_incomplete_file_is_an_error(file, size):
    content = file.read_bytes()
    file.write_bytes(content[:size])
    with pytest.raises(ValueError, match=r"table|incomplete|empty|column|delimiter|Expecting|buffer"):
        MappedTable.read(file)


@pytest.mark.parametrize("text", [b"onezw", b"16000", b"\0\0\1\0\0"])
def test_a_changed_byte_is_noticed(table, file, text):
    content = file.read_bytes()
    MappedTable.read(file, verify=True)  # the control
    assert text in content
    place = content.index(text) + 4
    file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    MappedTable.read(file)
    with pytest.raises(ValueError, match="is damaged"):
        MappedTable.read(file, verify=True)


def test_another_process_gets_the_name_of_the_file_instead_of_its_content(tmp_path):
    sizes = []
    for rows in (10, 10_000):
        table = MappedTable({}, {"numbers": np.arange(rows)})
        assert len(pickle.dumps(table)) > rows * 8  # the control: it is in memory
        table.write(tmp_path / "b.table")
        sent = pickle.dumps(MappedTable.read(tmp_path / "b.table"))
        assert np.array_equal(pickle.loads(sent).arrays["numbers"], np.arange(rows))  # noqa: S301
        sizes.append(len(sent))
    assert sizes[0] == sizes[1]


def test_a_process_notices_that_the_file_is_another_one(table, file):
    sent = pickle.dumps(MappedTable.read(file))
    table.write(file)
    assert pickle.loads(sent).facts == table.facts  # noqa: S301 - the same content
    table.arrays["frames"][3] += 1
    table.write(file)
    with pytest.raises(ValueError, match="has been replaced since this run has started"):
        pickle.loads(sent)  # noqa: S301


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps a mapped file")
@pytest.mark.parametrize("replaced", [False, True])
def test_another_process_gets_the_content_if_the_file_is_gone(table, file, replaced):
    mapped = MappedTable.read(file)
    if replaced:
        MappedTable({}).write(file)
    else:
        file.unlink()
    got = pickle.loads(pickle.dumps(mapped))  # noqa: S301
    assert got.facts == table.facts
    assert {name: array.tolist() for name, array in got.arrays.items()} == {
        name: array.tolist() for name, array in table.arrays.items()
    }


def test_a_table_that_can_not_be_completed_leaves_the_old_one(table, file, monkeypatch):
    old = file.read_bytes()
    table.arrays["frames"] = np.zeros(7)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        table.write(file)
    assert file.read_bytes() == old
    assert list(file.parent.iterdir()) == [file]
