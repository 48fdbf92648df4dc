"""Tables of other programs are read as they are meant, or refused."""

import math

import pytest

from audiozen_core.errors import DataError
from audiozen_core.results.id_table import read_id_table
from audiozen_core.results.reading import read_scores

READERS = (read_scores, read_id_table)


def write(tmp_path, name, content, encoding="utf-8"):
    (tmp_path / name).write_bytes(content.encode(encoding))
    return tmp_path / name


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.csv", "id;pesq\na;2.5\nb;1\n", "another character seems to separate"),
        ("a.csv", "id;pesq\na;2,5\nb;1,5\n", "another character seems to separate"),
        ("a.csv", "id\tpesq\na\t2.5\n", "another character seems to separate"),
        ("a.tsv", "id,pesq\na,2.5\n", "another character seems to separate"),
        ("a.csv", "id,pesq,pesq\na,1,2\n", "several columns called pesq"),
        ("a.csv", "id,text,pesq\na,well, yes,2\n", "has 4 cells, but the header has 3: a"),
        ("a.csv", "id,pesq\na,1\nb\n", "has 1 cells, but the header has 2: b"),
        ("a.csv", "id,pesq\n", "has no rows"),
        ("a.csv", "", "has no rows"),
    ],
)
def test_table_that_would_be_read_wrongly_is_refused(tmp_path, reader, name, content, what):
    with pytest.raises(DataError, match=what):
        reader(write(tmp_path, name, content))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("name", "content", "encoding"),
    [
        ("a.csv", "id,pesq\na,2.5\n", "utf-8-sig"),
        ("a.csv", "id,pesq\r\na,2.5\r\n\r\n", "utf-8"),
        ("a.csv", "id,pesq\ra,2.5\r", "utf-8"),
        ("a.tsv", "id\tpesq\na\t2.5\n", "utf-8"),
        ("a.csv", "id,pesq,,\na,2.5,,\n", "utf-8"),
    ],
)
def test_forms_of_the_same_table(tmp_path, reader, name, content, encoding):
    read = reader(write(tmp_path, name, content, encoding))
    found = read.files[0].values["pesq"] if reader is read_scores else float(read.find("a")["pesq"])
    assert found == 2.5


def test_text_with_a_comma_is_whole_or_refused(tmp_path):
    path = write(tmp_path, "a.csv", 'id,text\na,"well, yes"\n')
    assert read_id_table(path, text=True).find("a") == {"text": "well, yes"}
    with pytest.raises(DataError, match="has 3 cells"):
        read_id_table(write(tmp_path, "a.csv", "id,text\na,well, yes\n"), text=True)


@pytest.mark.parametrize("cell", ["", "NaN", "N/A", "NA", "null", "None", "-", "inf", " "])
def test_cell_without_a_value_leaves_its_column_a_metric(tmp_path, cell):
    read = read_scores(write(tmp_path, "a.csv", f"id,pesq,noise\na,2.5,none\nb,{cell},babble\n"))
    assert ([metric.name for metric in read.metrics], read.conditions) == (["pesq"], ("noise",))
    assert math.isnan(read.files[1].values["pesq"])


def test_cell_that_is_no_number_is_named_if_no_column_has_numbers(tmp_path):
    with pytest.raises(DataError, match="no column of numbers") as caught:
        read_scores(write(tmp_path, "a.csv", 'id,pesq\na,"2,5"\nb,1.5\n'))
    assert list(caught.value.notes) == ["`2,5` as pesq of `a` is not a number"]


def test_row_without_an_id_is_refused(tmp_path):
    with pytest.raises(DataError, match="has no ID"):
        read_scores(write(tmp_path, "a.csv", "id,pesq\na,2.5\n,2.5\n"))
