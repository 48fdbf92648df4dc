"""What all tests share: one thread, a quiet log, and the folder of the reference data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from audiozen_core import logging

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True, scope="session")
def _steady_machine():
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    logging.configure(level="info")


@pytest.fixture
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of the reference data; a test that asks for it skips where there is none."""
    folder = os.environ.get("AUDIOZEN_REFERENCE_DATA")
    if not folder:
        pytest.skip("AUDIOZEN_REFERENCE_DATA does not say where the reference data are")
    return Path(folder)


def pytest_terminal_summary(terminalreporter):
    """Tells how many moments of stopping a training the tests have tried."""
    calls = [report for reports in terminalreporter.stats.values() for report in reports if _is_call(report)]
    tried = sum(value for call in calls for name, value in call.user_properties if name == "crash points")
    if tried:
        terminalreporter.write_line(f"crash points tried: {tried:,}")


def _is_call(report):
    return getattr(report, "when", None) == "call"
