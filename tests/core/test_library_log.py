"""The log of a program that uses AudioZEN as a library."""

import subprocess
import sys

LOG = "from audiozen_core.logging import get_logger; get_logger().warning('a line'); print('a result')"


def run(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)


def test_log_lines_go_to_standard_error():
    done = run(LOG)
    assert done.stdout == "a result\n"
    assert "a line" in done.stderr


def test_loggers_of_the_program_do_not_change():
    done = run(f"import structlog; {LOG}; structlog.get_logger().debug('a line of the program')")
    assert "a line of the program" in done.stdout
    assert "a line of the program" not in done.stderr


def test_the_programs_own_configuration_of_structlog_is_kept():
    done = run(f"import structlog; structlog.configure(processors=[structlog.processors.JSONRenderer()])\n{LOG}")
    assert done.stdout == '{"event": "a line"}\na result\n'
