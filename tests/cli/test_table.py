"""Tables on standard output: nothing is lost in a pipe, nothing is read as markup."""

import sys

import pytest

from audiozen_core.cli.table import echo_table


def test_columns_are_aligned_and_lines_end_without_blanks(capsys):
    echo_table([("epoch_0001", "1", "whole"), ("a", "12", "")], headings=("name", "epoch", "state"), right=["epoch"])
    assert capsys.readouterr().out == "name        epoch  state\nepoch_0001      1  whole\na              12\n"


@pytest.mark.parametrize("columns", ["20", "80"])
def test_nothing_is_cut_or_wrapped_in_a_pipe(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    long = "a sentence of many words " * 20 + "the end"
    echo_table([(long, long, "last")])
    assert capsys.readouterr().out == f"{long}  {long}  last\n"


def test_a_narrow_terminal_wraps_cells_and_keeps_every_character(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    echo_table([("short", "x" * 50)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 20
    assert "".join(lines).count("x") == 50


def test_brackets_and_colons_are_not_markup(capsys):
    echo_table([("[bold]net[/bold]", ":smile:", "model[0]")])
    assert capsys.readouterr().out == "[bold]net[/bold]  :smile:  model[0]\n"


def test_a_row_may_be_a_heading_alone(capsys):
    echo_table([("model",), ("  net", "acme 1.0")])
    assert capsys.readouterr().out == "model\n  net  acme 1.0\n"


def test_a_table_without_rows_prints_nothing(capsys):
    echo_table([])
    assert capsys.readouterr().out.strip() == ""
