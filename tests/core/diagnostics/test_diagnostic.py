"""Findings are shown as text, as data, and as annotations."""

import json
import re
from pathlib import Path

import pytest

from audiozen_core.diagnostics.diagnostic import Diagnostic, Span, as_annotation, as_data, render


def finding(source, column, end_column, **more):
    span = Span(Path("exp.toml"), 27, column, more.pop("end_line", 27), end_column)
    return Diagnostic("AZ102", "unknown key `weight_decy`", span=span, source=source, **more)


def test_finding_is_rendered_like_a_compiler_message():
    diagnostic = finding(
        "weight_decy = 1e-5", 1, 12, label="did you mean `weight_decay`?", notes=("signature: f(\n  x)", "help: y")
    )
    assert render(diagnostic).splitlines() == [
        "error[AZ102]: unknown key `weight_decy`",
        "  --> exp.toml:27:1",
        "   |",
        "27 | weight_decy = 1e-5",
        "   | ^^^^^^^^^^^ did you mean `weight_decay`?",
        "   = signature: f(",
        "       x)",
        "   = help: y",
    ]


def underlined_text(text):
    """Returns the text above the carets. Each character must be one terminal column wide."""
    line, carets = text.splitlines()[3:5]
    start = carets.index("^")
    return line[start : start + carets.count("^")]


def test_finding_without_a_position_has_no_excerpt():
    assert render(Diagnostic("AZ120", "no such file", label="did you mean x?")).splitlines() == [
        "error[AZ120]: no such file",
        " = did you mean x?",
    ]


def test_tab_before_the_caret_is_kept():
    assert render(finding("\tlr = x", 7, 8)).splitlines()[4] == "   | \t     ^"


def test_wide_characters_count_as_two_columns():
    lines = render(finding("漢字 = x", 6, 7)).splitlines()
    assert lines[4] == "   | " + " " * 7 + "^"
    assert render(finding("漢字 = x", 1, 3)).splitlines()[4] == "   | ^^^^"


def test_combining_marks_count_as_no_column():
    assert render(finding("e\u0301 = x", 6, 7)).splitlines()[4] == "   | " + " " * 4 + "^"


@pytest.mark.parametrize("column", [1, 5, 60, 300, 3000, 5990])
def test_excerpt_of_a_long_line_is_cut_around_the_position(column):
    source = "".join(chr(97 + number % 26) for number in range(6000))
    text = render(finding(source, column, column + 4))
    assert underlined_text(text) == source[column - 1 : column + 3]
    assert max(map(len, text.splitlines())) < 140


def test_carets_under_a_very_long_value_are_cut_with_the_excerpt():
    text = render(finding("x = " + "1" * 10_000, 5, 10_005))
    assert max(map(len, text.splitlines())) < 140


def test_multiline_value_is_underlined_on_its_first_line_only():
    assert underlined_text(render(finding("x = [1,", 5, 2, end_line=29))) == "[1,"


def test_control_characters_are_not_printed():
    nasty = "a\x1b[31m\u202e\r\x07b"
    diagnostic = Diagnostic("AZ102", nasty, label=nasty, notes=(nasty,), source=nasty, span=finding("", 1, 2).span)
    text = render(diagnostic)
    assert not set(text) & set("\x1b\u202e\r\x07")


def test_colours_do_not_change_the_text():
    diagnostic = finding("lr = x", 6, 7, label="here", notes=("help: y",))
    assert re.sub(r"\x1b\[[0-9;]*m", "", render(diagnostic, colour=True)) == render(diagnostic)
    assert "\x1b[1;31m" in render(diagnostic, colour=True)


def test_finding_as_data_can_be_written_as_json():
    data = as_data(finding("lr = x", 6, 7, label="here", suggestion="0.1", notes=("help: y",)))
    assert json.loads(json.dumps(data)) == data
    assert (data["file"], data["line"], data["column"], data["end_column"]) == ("exp.toml", 27, 6, 7)
    assert data["suggestion"] == "0.1"
    assert as_data(Diagnostic("AZ120", "no such file"))["line"] is None


def test_finding_as_an_annotation_is_one_line():
    diagnostic = finding("lr = x", 6, 7, label="100 %", notes=("a\nb",))
    assert as_annotation(diagnostic) == (
        "::error title=AZ102,file=exp.toml,line=27,endLine=27,col=6,endColumn=7::"
        "unknown key `weight_decy`%0A100 %25%0Aa%0Ab"
    )
    span = Span(Path("a,b:c.toml"), 1, 2, 3, 4)
    text = as_annotation(Diagnostic("AZ110", "old", severity="warning", span=span))
    assert text == "::warning title=AZ110,file=a%2Cb%3Ac.toml,line=1,endLine=3::old"
