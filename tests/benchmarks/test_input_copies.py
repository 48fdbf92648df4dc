"""The benchmark runs and prints a ratio for each network."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_benchmark_prints_the_ratio_of_every_network(repository, tmp_path):
    options = ["--seconds", "0.2", "--batch", "1", "--rounds", "2"]
    command = [sys.executable, repository / "benchmarks/input_copies.py", *options]
    completed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = completed.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["SDNN", "one filter"]
    assert all(float(line.split()[-1]) > 0 for line in lines)
