"""Values of a TOML in messages; that their full text reads back is tested with whole documents."""

from pathlib import Path

import pytest

from audiozen_core.diagnostics.toml_text import as_toml_value, short_toml_text, toml_text, value_in_words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("fast", 'the string `"fast"`'),
        (True, "the boolean `true`"),
        (1.5, "the float `1.5`"),
        ([1, "x"], 'the array `[1, "x"]`'),
        ({"a": 1}, "a table"),
    ],
)
def test_a_message_says_what_a_value_is(value, words):
    assert value_in_words(value) == words


def test_long_values_are_cut_in_messages():
    assert short_toml_text([1, True, "x", {}]) == '[1, true, "x", {…}]'
    assert len(short_toml_text("x" * 500)) < 50
    assert short_toml_text(list(range(99))) == "[…]"
    assert short_toml_text("x" * 30) == toml_text("x" * 30), "negative control: a short one is whole"


def test_a_value_that_toml_lacks_is_shown_as_python_writes_it():
    assert short_toml_text(None) == "None"
    with pytest.raises(TypeError, match="NoneType"):
        toml_text(None)


def test_defaults_of_python_become_values_of_toml():
    assert as_toml_value(((0.9, 0.999), Path("a.wav"))) == [[0.9, 0.999], "a.wav"]
