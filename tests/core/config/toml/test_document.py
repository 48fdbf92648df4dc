"""Reading TOML files, and errors for files that are not valid TOML."""

import os
from pathlib import Path

import pytest

from audiozen_core.config.toml.document import Document
from audiozen_core.errors import ConfigError


def findings(text):
    with pytest.raises(ConfigError) as caught:
        Document.parse(text, Path("exp.toml"))
    return caught.value.diagnostics


def finding(path):
    with pytest.raises(ConfigError) as caught:
        Document.read(path)
    (only,) = caught.value.diagnostics
    return only


def place(diagnostic):
    return diagnostic.span.line, diagnostic.span.column


def write(folder, content, name="exp.toml"):
    file = folder / name
    file.write_bytes(content)
    return file


def test_document_has_the_values_and_positions_of_the_file(tmp_path):
    document = Document.read(write(tmp_path, b"[meta]\r\nseed = 1\r\n"))
    assert document.values == {"meta": {"seed": 1}}
    assert document.value_span(("meta", "seed")).line == 2
    assert document.file == tmp_path / "exp.toml"


def test_error_for_a_missing_file_suggests_a_similar_name(tmp_path):
    write(tmp_path, b"a = 1", "baseline.toml")
    diagnostic = finding(tmp_path / "baselin.toml")
    assert diagnostic.code == "AZ120"
    assert "does not exist" in diagnostic.message
    assert "baseline.toml`?" in diagnostic.notes[0]
    assert "baseline.toml`?" in finding(tmp_path / "baseline").notes[0]


def test_error_for_a_missing_file_lists_the_files_of_the_folder(tmp_path):
    write(tmp_path, b"a = 1", "zzz.toml")
    assert "contains `zzz.toml`" in finding(tmp_path / "baseline.toml").notes[0]
    assert "sub` does not exist either" in finding(tmp_path / "sub" / "baseline.toml").notes[0]


def test_error_for_a_folder_lists_its_files(tmp_path):
    write(tmp_path, b"a = 1", "baseline.toml")
    diagnostic = finding(tmp_path)
    assert "is a folder" in diagnostic.message
    assert "baseline.toml" in diagnostic.notes[0]


def test_reading_a_pipe_is_an_error_and_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "exp.toml")
    assert "not a regular file" in finding(tmp_path / "exp.toml").message


def test_file_name_with_a_nul_character_is_an_error():
    assert finding("exp\0.toml").code == "AZ120"


@pytest.mark.parametrize("content", [b"", b"\n\n", b"# nothing\n"])
def test_file_without_keys_is_an_error(tmp_path, content):
    assert finding(write(tmp_path, content)).code == "AZ123"


def test_error_shows_the_first_byte_that_is_not_utf8(tmp_path):
    diagnostic = finding(write(tmp_path, 'a = "é"\r\nb = "é'.encode() + b'caf\xe9"\r\n'))
    assert diagnostic.code == "AZ121"
    assert place(diagnostic) == (2, 10)
    assert "0xe9" in diagnostic.message


def test_utf16_file_is_an_error_that_recommends_utf8(tmp_path):
    diagnostic = finding(write(tmp_path, "a = 1".encode("utf-16")))
    assert (diagnostic.code, place(diagnostic)) == ("AZ121", (1, 1))
    assert "UTF-8" in diagnostic.notes[0]


def test_byte_order_mark_does_not_change_values_or_positions(tmp_path):
    document = Document.read(write(tmp_path, b"\xef\xbb\xbfseed = 0"))
    assert document.values == {"seed": 0}
    assert document.key_span(("seed",)).column == 1
    broken = finding(write(tmp_path, b"\xef\xbb\xbfa = 'x'\nb = '\xe9'"))
    assert place(broken) == (2, 6)


def test_file_of_600_kilobytes_is_read_with_correct_positions(tmp_path):
    document = Document.read(write(tmp_path, b"a = [" + b"1.5, " * 120_000 + b"]\nb = 2\n"))
    assert len(document.values["a"]) == 120_000
    assert document.value_span(("b",)).line == 2


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 200 + "]" * 200,
        "x = " + "{a=" * 200 + "1" + "}" * 200,
        ".".join("a" * 200) + " = 1",
        "\n".join(f"[{'.'.join('a' * depth)}]" for depth in range(1, 200)),
        "x = " + "[" * 400_000,
    ],
)
def test_nesting_of_two_hundred_levels_is_an_error(text):
    (diagnostic,) = findings(text)
    assert diagnostic.code == "AZ125"
    assert diagnostic.span is not None


@pytest.mark.parametrize(
    ("text", "where", "reason"),
    [
        ("a = 1\nb = ", (2, 4), "Invalid value"),
        ("a = 1\n\nb == 1", (3, 4), "Invalid value"),
        ("a = 1\n[b\nc = 1", (2, 3), "Expected ']' at the end of a table declaration"),
        ("a = 'é' b = 1", (1, 9), "Expected newline"),
        ("a = 'x", (1, 7), ""),
        ("a = 1\r\nb = \r\n", (2, 5), "Invalid value"),
    ],
)
def test_syntax_error_is_reported_with_position_and_reason(text, where, reason):
    (diagnostic,) = findings(text)
    assert diagnostic.code == "AZ126"
    assert place(diagnostic) == where
    assert reason in diagnostic.message
    assert diagnostic.source == text.replace("\r", "").split("\n")[where[0] - 1]


@pytest.mark.parametrize(("word", "help_"), [("True", "`true`"), ("None", "leave the key out"), ("hann", "quotes")])
def test_python_or_yaml_value_is_reported_with_a_hint(word, help_):
    (diagnostic,) = findings(f"a = {word}")
    assert help_ in diagnostic.notes[0]
    assert diagnostic.span.end_column - diagnostic.span.column == len(word)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[a]\nlr = 1\nx = 2\nlr = 3", (4, 1)),
        ("[a]\nx = 1\n[a]\ny = 1", (3, 2)),
        ("[a]\nx = 1\n[a.x]\ny = 1", (3, 4)),
        ("[[a]]\nx = 1\n[a]\ny = 1", (3, 2)),
        ("[a]\nx = 1\n[[a]]\ny = 1", (3, 3)),
        ("a = {x = 1, x = 2}", (1, 13)),
    ],
)
def test_error_for_a_repeated_key_shows_both_positions(text, where):
    (diagnostic,) = findings(text)
    assert place(diagnostic) == where
    assert "twice" in diagnostic.message
    assert diagnostic.notes[0].startswith("first: exp.toml:")


def test_integer_with_thousands_of_digits_is_an_error():
    (diagnostic,) = findings("a = 1\nb = " + "9" * 5000)
    assert diagnostic.code == "AZ126"
