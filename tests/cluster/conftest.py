"""Fixtures for the tests on several machines."""

import os

import pytest

from tests.conftest import fsync


@pytest.fixture(autouse=True)
def _synced(monkeypatch):
    """Lets this process sync, unlike in other tests."""
    monkeypatch.setattr(os, "fsync", fsync)


@pytest.fixture
def measured(record_property, capsys):
    """Returns a function that prints and records a time in seconds. No test depends on one."""

    def measure(what, seconds):
        record_property(what, round(seconds, 1))
        with capsys.disabled():
            print(f"\n{what}: {seconds:.1f} s")

    return measure
