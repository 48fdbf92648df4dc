"""Fixtures for the tests on several machines."""

import pytest


@pytest.fixture
def measured(record_property, capsys):
    """Returns a function that prints and records a time in seconds. No test depends on one."""

    def measure(what, seconds):
        record_property(what, round(seconds, 1))
        with capsys.disabled():
            print(f"\n{what}: {seconds:.1f} s")

    return measure
