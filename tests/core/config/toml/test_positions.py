"""Positions of keys and values in every syntax that TOML has."""

import itertools
import math
from pathlib import Path

import pytest
import tomli
from hypothesis import assume, given, settings

from audiozen_core.config.toml.document import Document
from audiozen_core.config.toml.positions import MAX_DEPTH, TooDeepError, find_positions
from tests.core.config.toml.toml_texts import documents

# These tests run the same lines thousands of times. Measuring the coverage of all runs would double the time.
pytestmark = pytest.mark.no_cover


def read(text):
    return Document.parse(text, Path("exp.toml"))


def text_at(document, span):
    """Returns the text of a span, using only its lines and columns."""
    lines = document.source.text.split("\n")
    if span.line == span.end_line:
        return lines[span.line - 1][span.column - 1 : span.end_column - 1]
    first, *middle = lines[span.line - 1 : span.end_line]
    middle[-1] = middle[-1][: span.end_column - 1]
    return "\n".join([first[span.column - 1 :], *middle])


def key_at(document, *path):
    return text_at(document, document.key_span(path))


def value_at(document, *path):
    return text_at(document, document.value_span(path))


def all_paths(values, path=()):
    items = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in items:
        yield (*path, key), value
        if isinstance(value, (dict, list)):
            yield from all_paths(value, (*path, key))


def same(one, other):
    return one == other or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


def test_key_and_value_below_a_header_have_positions():
    document = read("[optimizer.args]\nlr = 1e-3 # fast")
    assert key_at(document, "optimizer", "args", "lr") == "lr"
    assert value_at(document, "optimizer", "args", "lr") == "1e-3"
    span = document.value_span(("optimizer", "args", "lr"))
    assert (span.line, span.column, span.end_line, span.end_column) == (2, 6, 2, 10)


def test_each_part_of_a_dotted_key_has_a_position():
    document = read("optimizer . \"my args\" .'l.r' = 1")
    assert key_at(document, "optimizer") == "optimizer"
    assert key_at(document, "optimizer", "my args") == '"my args"'
    assert key_at(document, "optimizer", "my args", "l.r") == "'l.r'"
    assert value_at(document, "optimizer", "my args", "l.r") == "1"


def test_escaped_key_is_found_by_its_unescaped_name():
    assert key_at(read('"caf\\u00e9" = 1'), "café") == '"caf\\u00e9"'


def test_table_has_the_position_of_its_own_header():
    document = read("[a.b]\nx = 1\n[ a ]\ny = 2")
    assert document.key_span(("a",)).line == 3
    assert value_at(document, "a") == "[ a ]"
    assert value_at(document, "a", "b") == "[a.b]"


def test_tables_inside_arrays_of_tables_have_positions():
    document = read(
        "[[hooks]]\npath = 'one'\n[[hooks]]\n[hooks.args]\nx = 1\n[[hooks.args.deep]]\n[[hooks.args.deep]]\ny=2"
    )
    assert document.key_span(("hooks",)).line == 1
    assert document.value_span(("hooks", 1)).line == 3
    assert document.value_span(("hooks", 1, "args")).line == 4
    assert document.value_span(("hooks", 1, "args", "x")).line == 5
    assert document.value_span(("hooks", 1, "args", "deep", 1, "y")).line == 8


def test_values_in_inline_tables_and_nested_arrays_have_positions():
    document = read("x = { a.b = [1, [2, {c = 'three'}]], d = { } }")
    assert value_at(document, "x") == "{ a.b = [1, [2, {c = 'three'}]], d = { } }"
    assert value_at(document, "x", "a", "b", 1, 1, "c") == "'three'"
    assert key_at(document, "x", "a", "b", 1, 1, "c") == "c"
    assert value_at(document, "x", "d") == "{ }"


def test_comments_in_a_multiline_array_do_not_change_positions():
    document = read("a = [ # ] not the end\n  1, # one\n  'x # ]',\n]\nb = 2")
    assert document.value_span(("a", 1)).line == 3
    assert value_at(document, "a", 1) == "'x # ]'"
    assert document.key_span(("b",)).line == 5


@pytest.mark.parametrize(
    "text", ['"""\n one\n "two" \\""" """', "'''\n\\'''", '"""five quotes"""""', "'''four'''''", '""""""']
)
def test_multiline_string_is_one_value(text):
    document = read(f"a = {text} # end\nb = 1")
    assert value_at(document, "a") == text
    assert value_at(document, "b") == "1"


def test_date_with_a_space_is_one_value():
    assert value_at(read("a = [1979-05-27 07:32:00 , 1]"), "a", 0) == "1979-05-27 07:32:00"


def test_columns_count_characters_not_bytes():
    document = read('"漢字🎧" = "é"')
    span = document.value_span(("漢字🎧",))
    assert (span.column, span.end_column) == (9, 12)


def test_windows_line_endings_do_not_change_positions():
    text = "[a]\nx = '''\n1\n'''\ny = [\n 2]\n"
    unix, windows = read(text), read(text.replace("\n", "\r\n"))
    assert windows.positions == unix.positions
    assert windows.source.line(2) == "x = '''"


def test_unicode_line_separators_do_not_end_a_line():
    document = read("a = '\u2028\x85' # \u2029\nb = 1")
    assert document.value_span(("b",)).line == 2


def test_missing_key_has_the_position_of_its_table():
    document = read("[a]\nx = 1")
    assert document.value_span(("a", "missing", "deep")) == document.value_span(("a",))
    assert document.value_span(("z",)).line == 1


@settings(max_examples=120, deadline=None)
@given(documents())
def test_every_key_and_value_that_tomli_reads_has_the_right_position(text):
    try:
        values = tomli.loads(text)
    except tomli.TOMLDecodeError:
        assume(False)
    document = read(text)
    assert document.values == values or "nan" in text
    paths = dict(all_paths(values))
    assert set(paths) == set(document.positions.values) == set(document.positions.keys)
    assert document.positions.twice == []
    for path, value in paths.items():
        key, found = key_at(document, *path), value_at(document, *path)
        if isinstance(path[-1], str):
            assert list(tomli.loads(f"{key.strip('[] ') if key.startswith('[') else key} = 1")) == [path[-1]]
        if not isinstance(value, (dict, list)):
            assert same(tomli.loads(f"x = {found}")["x"], value)


@settings(max_examples=80, deadline=None)
@given(documents())
def test_values_do_not_overlap(text):
    try:
        document = read(text)
    except Exception:
        assume(False)
    leaves = [
        document.positions.values[path]
        for path, value in all_paths(document.values)
        if not isinstance(value, (dict, list))
    ]
    assert len(set(leaves)) == len(leaves)
    ordered = sorted(leaves)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(ordered))


@pytest.mark.parametrize(("open_", "close"), [("[", "]"), ("{a=", "}")])
def test_error_for_deep_nesting_is_located_at_the_first_level_too_deep(open_, close):
    text = "x = " + open_ * 200 + "1" + close * 200
    with pytest.raises(TooDeepError) as caught:
        find_positions(text)
    assert caught.value.args[0] == len("x = ") + MAX_DEPTH * len(open_) + (len(open_) - 1 and -2)


@pytest.mark.parametrize("text", [".".join("a" * 200) + " = 1", f"[{'.'.join('a' * 200)}]"])
def test_dotted_key_with_too_many_parts_is_an_error(text):
    with pytest.raises(TooDeepError):
        find_positions(text)


@pytest.mark.parametrize(
    "text", ["a", "a =", "= 1", "[a", "a = [1", "a = {b = 1", "a = '", 'a = """', "a = [1 2]", "]"]
)
def test_positions_before_a_syntax_error_are_available(text):
    positions = find_positions(f"first = 1\n{text}")
    assert positions.values["first",] == (8, 9)
