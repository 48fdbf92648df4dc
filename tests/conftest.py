"""Settings and fixtures for all tests: one thread, the log level, and the folder of the reference data."""

from __future__ import annotations

import gc
import os
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from audiozen_core import logging

# Any example can take longer than 0.2 seconds on a busy machine. Without this setting, Hypothesis would fail it.
settings.register_profile("audiozen", deadline=None)
settings.load_profile("audiozen")

REPOSITORY = Path(__file__).resolve().parent.parent
fsync = os.fsync

MEASURED_CASES = 3

# These repeat what other tests reach, many times or in processes of their own.
UNMEASURED = (
    "tests/reliability",
    "tests/cluster",
    "tests/examples",
    "tests/test_docs.py",
    "tests/test_plugin_pages.py",
    "tests/core/config/test_fuzz.py",
    "tests/core/config/test_meant_sections.py",
    "tests/core/checkpoint/test_crash.py",
    "tests/core/checkpoint/test_kill.py",
    "tests/plugins/loss/test_soft_dtw.py",
)


def pytest_collection_modifyitems(items):
    """Measures the coverage of the first cases of each test only: more cases rarely reach new lines, and take longer.

    On Python 3.11, a test with coverage takes twice the time.
    """
    seen = Counter()
    for item in items:
        test, _, case = item.nodeid.partition("[")
        seen[test] += 1
        if (case and seen[test] > MEASURED_CASES) or test.startswith(UNMEASURED):
            item.add_marker(pytest.mark.no_cover)


@pytest.fixture(autouse=True, scope="session")
def _reproducible_settings():
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    logging.configure(level="info")


@pytest.fixture(autouse=True, scope="session")
def _nothing_is_synced():
    """Leaves out the syncs of this process: a run makes dozens, which are slow, and the power is not cut here.

    The tests of crashes have a disk of their own, which counts them. Those in `tests/cluster`, where the power is cut,
    and each process that a test starts, sync.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True, scope="module")
def _small_heap():
    """Keeps what exists before a module of tests out of every later collection, which would look through it again.

    These are the objects of torch, of the collected tests, and of the modules that earlier tests have imported. A run
    of several modes collects before each mode.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _log_level():
    """Sets the log level again, which a command may have changed."""
    yield
    logging.configure(level="info")


@pytest.fixture
def repository() -> Path:
    """Returns the root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def reference() -> Path:
    """Returns the folder of the reference data. Skips the test if the environment variable is not set."""
    folder = os.environ.get("AUDIOZEN_REFERENCE_DATA")
    if not folder:
        pytest.skip("AUDIOZEN_REFERENCE_DATA is not set to the folder of the reference data")
    return Path(folder)


COUNTED = ("crash points", "kills", "power cuts")


def pytest_terminal_summary(terminalreporter):
    """Prints how many crash points, kills and power cuts the tests have tried."""
    calls = [report for reports in terminalreporter.stats.values() for report in reports if _is_call(report)]
    counts = {name: sum(dict(call.user_properties).get(name, 0) for call in calls) for name in COUNTED}
    if any(counts.values()):
        totals = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        terminalreporter.write_line(f"reliability: {totals} tried")


def _is_call(report):
    return getattr(report, "when", None) == "call"
