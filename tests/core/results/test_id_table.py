"""Manifests and lists of texts are read by ID, with or without folders and endings."""

import pytest

from audiozen_core.errors import DataError
from audiozen_core.results.id_table import audio_id, read_id_table
from audiozen_core.storage.audio_suffixes import AUDIO_SUFFIXES


def read(tmp_path, name, content, **options):
    (tmp_path / name).write_text(content, encoding="utf-8")
    return read_id_table(tmp_path / name, **options)


def test_csv_tsv_and_jsonl_have_the_same_content(tmp_path):
    for name, text in (
        ("a.csv", "file,snr,noise\nx/1.wav,5,babble\n2.5,0,car\n"),
        ("a.tsv", "snr\tid\tnoise\n5\tx/1.wav\tbabble\n0\t2.5\tcar\n"),
        ("a.jsonl", '{"id": "x/1.wav", "snr": 5, "noise": "babble"}\n\n{"id": "2.5", "snr": 0, "noise": "car"}\n'),
    ):
        table = read(tmp_path, name, text)
        assert table.find("x/1") == {"snr": "5", "noise": "babble"}
        assert table.find("1") == {"snr": "5", "noise": "babble"}
        assert table.find("2.5")["noise"] == "car"
        assert table.find("3") is None


def test_texts_are_lines_of_an_id_and_words_or_a_column(tmp_path):
    assert read(tmp_path, "text", "a the cat\nb\tsat down\n", text=True).find("b") == {"text": "sat down"}
    assert read(tmp_path, "t.csv", 'id,text\na,"yes, no"\n', text=True).find("a") == {"text": "yes, no"}
    with pytest.raises(DataError, match="no column `text`"):
        read(tmp_path, "t.csv", "id,words\na,b\n", text=True)


def test_name_in_two_folders_is_found_with_its_folder_only(tmp_path):
    table = read(tmp_path, "a.csv", "id,snr\nx/1,5\ny/1,0\n")
    assert table.find("y/1") == {"snr": "0"}
    assert table.find("1") is None


def test_row_of_another_folder_is_not_taken(tmp_path):
    table = read(tmp_path, "a.csv", "id,snr\ny/1,5\n/data/x/2.wav,0\n3,10\n")
    assert table.find("x/1") is None
    assert table.find("corpus/y/1") == {"snr": "5"}
    assert table.find("x/2") == table.find("2") == {"snr": "0"}
    assert table.find("z/2") is None
    assert table.find("x/3") == {"snr": "10"}


def test_two_rows_that_fit_are_ambiguous(tmp_path):
    table = read(tmp_path, "a.csv", "id,snr\na/x/1,5\nb/x/1,0\nb/y/1,10\n")
    assert table.find("x/1") is None
    assert table.find("y/1") == {"snr": "10"}


def test_column_id_is_the_id_wherever_it_stands(tmp_path):
    for name, content in (
        ("a.csv", "name,ID,snr\nbabble,a,5\nbabble,b,0\n"),
        ("a.jsonl", '{"name": "babble", "ID": "a", "snr": 5}\n{"name": "babble", "ID": "b", "snr": 0}\n'),
    ):
        assert read(tmp_path, name, content).find("a") == {"name": "babble", "snr": "5"}
    assert read(tmp_path, "b.csv", "name,file\nbabble,a.wav\n").find("a") == {"name": "babble"}


@pytest.mark.parametrize("ending", AUDIO_SUFFIXES)
def test_ending_of_audio_is_not_part_of_an_id(ending):
    assert audio_id(f"x/a.b{ending.upper()}") == "x/a.b"
    assert audio_id(f"x/a{ending}.5") == f"x/a{ending}.5"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"id,snr\na,1\na,2\n", "two different rows"),
        ("a.csv", b"id,snr\n", "has no rows"),
        (
            "a.csv",
            b"\xef\xbb\xbfid;snr\na;1\n",
            "only the column `id;snr`, so another character seems to separate its columns",
        ),
        ("a.tsv", b"id,snr\na,1\n", "only the column `id,snr`"),
        ("a.txt", b"\xff\xfe\x00", "not UTF-8"),
        ("a.jsonl", b"{\n", "line 1 of .* is not JSON"),
        ("a.jsonl", b"[1]\n", "is not an object"),
        ("a.jsonl", b'{"snr": 1}\n', "has no ID"),
    ],
)
def test_bad_file_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_id_table(tmp_path / name)


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="can't be read"):
        read_id_table(tmp_path / "none.csv")
