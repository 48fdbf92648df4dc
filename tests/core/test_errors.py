"""Errors quote the exceptions of other people, whose messages can have any form."""

import pytest

from audiozen_core.errors import BuildError, DataError, exception_text
from audiozen_core.hooks.ending import RunEnding

LINES = "sizes differ:\n\tweight: 3\r\n\n  bias: 4\n"


class Speechless(Exception):
    """An exception whose message can't be made."""

    def __str__(self):
        return self.missing


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError(LINES), "ValueError: sizes differ: weight: 3 bias: 4"),
        (ValueError("two  spaces"), "ValueError: two  spaces"),
        (Speechless(), "Speechless"),
        (KeyError(), "KeyError"),
    ],
)
def test_foreign_exception_is_quoted_in_one_line(error, text):
    assert exception_text(error) == text
    assert RunEnding.of_error(error).reason == text
    caused = BuildError.caused_by(error, "[model] can't be built: `Net` raised")
    assert caused.message == f"[model] can't be built: `Net` raised {text}"
    assert str(caused).splitlines()[0] == f"error[AZ210]: {caused.message}"


def test_message_of_several_lines_is_printed_without_replacement_characters():
    error = DataError(LINES)
    assert error.message == "sizes differ: weight: 3 bias: 4"
    assert "\ufffd" not in str(error)
