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
ADVICE = {"Diagnostic": ("notes", "label", "suggestion"), "finding": ("notes", "label", "suggestion")}
ADVICE |= dict.fromkeys(WITH_REMEDY, ("remedy",))
# One message lists the valid values, and the notes of a finding about a hook have the remedy.
ADVICE_ELSEWHERE = [
    ("audiozen_core/config/check_acoustics.py", "Diagnostic"),
    ("audiozen_core/hooks/lifecycle.py", "HookError"),
]


def errors_without_advice(text):
    """Returns the names of the errors and findings that a module creates without advice, or with an empty remedy."""
    for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
        name = getattr(call.func, "id", getattr(call.func, "attr", ""))
        advice = [keyword.value for keyword in call.keywords if keyword.arg in (*ADVICE.get(name, ()), None)]
        if name in ADVICE and (not advice or ast.unparse(advice[0]) == "''"):
            yield name


def test_every_error_says_what_to_do():
    assert {"AudioZenError", "RunError", "BuildError", "CheckpointError", "NoCheckpointError"} < WITH_REMEDY
    files = [file for package in ("audiozen_core", "audiozen_plugins") for file in (ROOT / package).rglob("*.py")]
    found = [
        (file.relative_to(ROOT).as_posix(), name)
        for file in files
        if "templates" not in file.parts
        for name in errors_without_advice(file.read_text(encoding="utf-8"))
    ]
    assert sorted(found) == ADVICE_ELSEWHERE


def test_error_without_advice_is_found():
    right = "DataError('a', remedy='b')\nDataError('c', **options)\nDiagnostic('d', label='e')\n"
    wrong = "raise RunError('f')\nBuildError('g', remedy='')\nself.finding('h', remedy='i')\n"
    assert list(errors_without_advice(right + wrong)) == ["RunError", "BuildError", "finding"]
