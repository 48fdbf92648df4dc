"""How messages show TOML values. `test_emit.py` tests that the full text is read back unchanged."""

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
def test_value_in_words_describes_type_and_value(value, words):
    assert value_in_words(value) == words


def test_short_toml_text_shortens_long_values():
    assert short_toml_text([1, True, "x", {}]) == '[1, true, "x", {…}]'
    assert len(short_toml_text("x" * 500)) < 50
    assert short_toml_text(list(range(99))) == "[…]"
    assert short_toml_text("x" * 30) == toml_text("x" * 30), "negative control: a short value is not cut"


def test_short_toml_text_shows_none_as_in_python():
    assert short_toml_text(None) == "None"
    with pytest.raises(TypeError, match="NoneType"):
        toml_text(None)


def test_as_toml_value_converts_tuples_and_paths():
    assert as_toml_value(((0.9, 0.999), Path("a.wav"))) == [[0.9, 0.999], "a.wav"]
