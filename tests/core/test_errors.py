"""Errors quote the exceptions of other people, whose messages can have any form."""

import ast
from pathlib import Path

import pytest

from audiozen_core import errors
from audiozen_core.checkpoint import errors as checkpoint_errors
from audiozen_core.errors import AudioZenError, BuildError, DataError, exception_text
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


ROOT = Path(errors.__file__).parent.parent
# These classes take a remedy as an argument, and have no default.
WITH_REMEDY = {
    name
    for module in (errors, checkpoint_errors)
    for name, cls in vars(module).items()
    if isinstance(cls, type) and cls.__init__ in (AudioZenError.__init__, BuildError.__init__)
}
# The notes of a finding about a hook have the remedy.
REMEDY_IN_NOTES = [("audiozen_core/hooks/lifecycle.py", "HookError")]


def errors_without_remedy(text):
    """Returns the names of the errors that a module creates without a remedy, or with an empty remedy."""
    calls = [
        node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    for call in calls:
        remedies = [keyword.value for keyword in call.keywords if keyword.arg in ("remedy", None)]
        if call.func.id in WITH_REMEDY and (not remedies or ast.unparse(remedies[0]) == "''"):
            yield call.func.id


def test_every_error_says_what_to_do():
    assert {"AudioZenError", "RunError", "BuildError", "CheckpointError", "NoCheckpointError"} < WITH_REMEDY
    files = [file for package in ("audiozen_core", "audiozen_plugins") for file in (ROOT / package).rglob("*.py")]
    found = [
        (file.relative_to(ROOT).as_posix(), name)
        for file in files
        if "templates" not in file.parts
        for name in errors_without_remedy(file.read_text(encoding="utf-8"))
    ]
    assert found == REMEDY_IN_NOTES


def test_error_without_a_remedy_is_found():
    text = "raise RunError('a')\nDataError('b', remedy='c')\nBuildError('d', remedy='')\nDataError('e', **options)"
    assert list(errors_without_remedy(text)) == ["RunError", "BuildError"]
