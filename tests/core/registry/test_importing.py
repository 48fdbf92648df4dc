"""Exceptions, exits and output of a module during its import are caught and reported."""

from __future__ import annotations

import logging
import sys

import pytest

from audiozen_core.diagnostics import codes
from audiozen_core.registry.errors import PathError
from audiozen_core.registry.paths import resolve
from audiozen_core.registry.scope import ImportScope


@pytest.fixture
def failure(write):
    def fail(path="bad.Net", /, **modules):
        with ImportScope([write("a", **modules)]), pytest.raises(PathError) as caught:
            resolve(path)
        return caught.value

    return fail


def test_error_shows_the_exception_and_the_line_that_raised_it(failure):
    error = failure(bad="x = 1\nraise ValueError('boom')")
    assert error.code == codes.IMPORT_FAILED
    assert error.message == "the module `bad` fails while it is imported: ValueError: boom"
    assert "at: bad.py:2 in <module>: raise ValueError('boom')" in error.notes
    assert isinstance(error.__cause__, ValueError)
    assert error.__cause__.__traceback__ is not None


def test_error_shows_only_lines_of_user_code(failure):
    error = failure(bad="import inner", inner="import json\njson.loads('{')")
    places = [note for note in error.notes if note.startswith("at: ")]
    assert [place.split(" in ")[0] for place in places] == ["at: bad.py:1", "at: inner.py:2"]


def test_error_shows_the_line_of_a_syntax_error(failure):
    error = failure(bad="x = 1\ndef f(:\n    pass")
    assert "SyntaxError" in error.message
    assert "at: bad.py:2: def f(:" in error.notes


def test_missing_import_inside_a_module_is_an_import_failure(failure):
    error = failure(bad="import az_not_installed")
    assert error.code == codes.IMPORT_FAILED
    assert "`az_not_installed`" in error.remedy


def test_import_from_the_core_is_reported_where_public_names_are(failure):
    found = failure(bad="from audiozen_core.hookspecs import hookimpl")
    assert found.remedy == "import public names, which do not move, such as `from audiozen import hookimpl`"


def test_attribute_error_inside_a_module_is_an_import_failure(failure):
    error = failure(bad="import math\nmath.nothing")
    assert error.code == codes.IMPORT_FAILED
    assert "AttributeError" in error.message


def test_sys_exit_during_an_import_is_reported(failure):
    error = failure(bad="import sys\nsys.exit(3)")
    assert error.message == "the module `bad` ends the program while it is imported: sys.exit(3)"
    assert isinstance(error.__cause__, SystemExit)


@pytest.mark.parametrize("raised", ["BaseException('deep')", "GeneratorExit()", "MemoryError()", "RecursionError()"])
def test_every_other_exception_is_reported(failure, raised):
    assert raised.partition("(")[0] in failure(bad=f"raise {raised}").message


def test_ctrl_c_is_not_caught(write):
    with ImportScope([write("a", bad="raise KeyboardInterrupt")]), pytest.raises(KeyboardInterrupt):
        resolve("bad.Net")


def test_exception_without_a_usable_message_is_reported(failure):
    assert failure(bad="raise ValueError").message.endswith("ValueError")
    text = "class Odd(Exception):\n    def __str__(self): raise RuntimeError\nraise Odd"
    assert "Odd" in failure(bad=text).message


def test_exception_of_a_lazy_attribute_is_reported(failure):
    error = failure(bad="def __getattr__(name): raise OSError('no library')")
    assert error.code == codes.IMPORT_FAILED
    assert "OSError: no library" in error.message


def test_importing_a_failed_module_again_fails_again(write):
    with ImportScope([write("a", bad="1 / 0")]):
        for _ in range(2):
            with pytest.raises(PathError, match="ZeroDivisionError"):
                resolve("bad.Net")


# ------------------------------------------------------------------------------------------ standard output


def test_output_of_an_import_is_captured(write, capsys):
    with ImportScope([write("a", loud="print('hello')\nclass Net: ...", quiet="class Net: ...")]):
        assert resolve("loud.Net").printed == "hello\n"
        assert resolve("quiet.Net").printed == ""
        print("afterwards")
    assert capsys.readouterr().out == "afterwards\n"


def test_log_handler_created_during_an_import_writes_to_the_real_output_afterwards(write, capsys):
    text = (
        "import logging, sys\nhandler = logging.StreamHandler(sys.stdout)\nhandler.stream.write('held')\nclass Net: ..."
    )
    with ImportScope([write("a", loud=text)]):
        found = resolve("loud.handler")
    record = logging.LogRecord("az", logging.INFO, "", 0, "later", (), None)
    found.target.emit(record)
    assert found.printed == "held"
    assert capsys.readouterr().out == "later\n"


def test_standard_output_is_restored_after_a_failed_import(write):
    before = sys.stdout
    with ImportScope([write("a", bad="print('x')\n1 / 0")]), pytest.raises(PathError):
        resolve("bad.Net")
    assert sys.stdout is before
