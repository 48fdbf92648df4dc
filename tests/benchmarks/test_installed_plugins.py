"""The benchmark runs and prints a comparison."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_benchmark_prints_the_times_of_every_command_and_their_ratio(repository, tmp_path):
    command = [sys.executable, repository / "benchmarks/installed_plugins.py", "--rounds", "1"]
    completed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = [line.split() for line in completed.stdout.splitlines()]
    assert [line[0] for line in lines] == ["--help", "plugins", "check", "run"]
    assert all(float(line[-2]) > 0 and line[-1] == "x" for line in lines)
    assert list(tmp_path.iterdir()) == []
