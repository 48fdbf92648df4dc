"""The benchmark prints the time of a step with and without a change."""

import re
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_benchmark_prints_both_times(repository):
    command = [sys.executable, "-m", "benchmarks.compiled_step", "crn", "--channels-last"]
    completed = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    found = re.search(r"plain: ([0-9.]+) s; channels-last: ([0-9.]+) s", completed.stdout)
    assert found
    assert all(float(seconds) > 0 for seconds in found.groups())
