"""The benchmark runs and prints a comparison."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_benchmark_prints_the_time_of_every_method_and_its_ratio(repository, tmp_path):
    command = [sys.executable, repository / "benchmarks/checkpoint_save.py", "--megabytes", "1", "--rounds", "2"]
    completed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = [line.split() for line in completed.stdout.splitlines()]
    assert [line[-1] for line in lines] == ["x"] * 6
    assert float(lines[0][-2]) == 1.0
    assert all(float(line[-2]) > 0 for line in lines)
    assert list(tmp_path.iterdir()) == []
