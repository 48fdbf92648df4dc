"""Tables on standard output keep all their text in a pipe, and print markup as plain text."""

import sys

import pytest
from rich.cells import cell_len

from audiozen_core.cli.table import echo_table


def test_columns_are_aligned_without_trailing_spaces(capsys):
    echo_table([("epoch_0001", "1", "whole"), ("a", "12", "")], headings=("name", "epoch", "state"), right=["epoch"])
    assert capsys.readouterr().out == "name        epoch  state\nepoch_0001      1  whole\na              12\n"


@pytest.mark.parametrize("columns", ["20", "80"])
def test_table_is_neither_cut_nor_wrapped_in_a_pipe(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    long = "a sentence of many words " * 20 + "the end"
    echo_table([(long, long, "last")])
    assert capsys.readouterr().out == f"{long}  {long}  last\n"


def test_narrow_terminal_wraps_cells_without_losing_text(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    echo_table([("short", "x" * 50)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 20
    assert "".join(lines).count("x") == 50


def test_brackets_and_colons_are_printed_unchanged(capsys):
    echo_table([("[bold]net[/bold]", ":smile:", "model[0]")])
    assert capsys.readouterr().out == "[bold]net[/bold]  :smile:  model[0]\n"


@pytest.mark.parametrize("is_terminal", [False, True])
def test_wide_characters_take_two_columns(capsys, monkeypatch, is_terminal):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal, raising=False)
    echo_table([("语音增强.wav", "8.0"), ("clip.wav", "10.0"), ("e\u0301.wav", "1.0")])
    lines = capsys.readouterr().out.splitlines()
    assert {cell_len(line[: line.rindex(" ")]) for line in lines} == {13}


def test_row_with_a_single_cell_is_printed_as_a_heading(capsys):
    echo_table([("model",), ("  net", "acme 1.0")])
    assert capsys.readouterr().out == "model\n  net  acme 1.0\n"


def test_table_without_rows_prints_nothing(capsys):
    echo_table([])
    assert capsys.readouterr().out.strip() == ""
