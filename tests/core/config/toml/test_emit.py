"""Values are written as TOML text."""

from datetime import date, datetime, time, timedelta, timezone

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from audiozen_core.config.toml.emit import emit
from audiozen_core.config.toml.interpolation import split_references
from audiozen_core.diagnostics.toml_text import toml_text

# These tests run the same lines thousands of times. Measuring the coverage of all runs would double the time.
pytestmark = pytest.mark.no_cover

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_subnormal=False),
    TEXTS,
    st.dates(),
    st.times().map(lambda moment: moment.replace(fold=0)),
    st.datetimes().map(lambda moment: moment.replace(fold=0)),
    st.datetimes(timezones=st.just(timezone(timedelta(hours=-7)))).map(lambda moment: moment.replace(fold=0)),
)
VALUES = st.recursive(
    SCALARS,
    lambda children: st.one_of(st.lists(children, max_size=4), st.dictionaries(TEXTS, children, max_size=4)),
    max_leaves=12,
)


def unescaped(value):
    """Replaces `$${` by `${`. Loading the emitted text does the same."""
    if isinstance(value, dict):
        return {key: unescaped(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [unescaped(entry) for entry in value]
    return "".join(split_references(value)) if isinstance(value, str) else value


def typed(value):
    """Distinguishes values that are equal in Python: 1, 1.0 and true; 0.0 and -0.0."""
    if isinstance(value, dict):
        return {key: typed(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [typed(entry) for entry in value]
    return type(value).__name__, repr(value)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(TEXTS, VALUES, max_size=5))
def test_emitted_toml_is_read_back_as_the_same_values(values):
    assert typed(unescaped(tomli.loads(emit(values)))) == typed(values)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-5, "1e-05"),
        (1e22, "1e+22"),
        (float("inf"), "inf"),
        (float("-inf"), "-inf"),
        (float("nan"), "nan"),
        (True, "true"),
        ("é漢 \x1b\u2028", '"é漢 \\U0000001b\\U00002028"'),
        (datetime(2026, 11, 22, 7, 32, tzinfo=timezone.utc), "2026-11-22T07:32:00+00:00"),
        (date(2026, 11, 22), "2026-11-22"),
        (time(7, 32), "07:32:00"),
        ({}, "{}"),
        ([], "[]"),
    ],
)
def test_toml_text_formats_a_value(value, text):
    assert toml_text(value) == text


def test_long_array_is_written_with_one_entry_per_line():
    text = emit({"files": ["a" * 60, "b" * 60]})
    assert text.splitlines()[0] == "files = ["
    assert tomli.loads(text)["files"][1] == "b" * 60


def test_deeply_nested_long_array_is_emitted():
    # With 60 levels, an implementation that takes exponential time in the depth would never finish.
    value = ["x" * 101]
    for _ in range(60):
        value = [value]
    assert tomli.loads(emit({"a": value}))["a"] == value


def test_comments_follow_values_and_headers_on_their_lines():
    text = emit({"a": {"x": 1, "y": 2}}, lambda path: "set here" if path in {("a",), ("a", "y")} else "")
    assert text == "[a]  # set here\nx = 1\ny = 2  # set here\n"


def test_emitting_a_value_that_toml_lacks_is_an_error():
    with pytest.raises(TypeError, match="NoneType"):
        emit({"a": None})
