"""The benchmark measures each repetition, and draws the curves."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_benchmark_prints_the_score_of_each_repetition_and_draws_it(repository, reference, tmp_path):
    command = [sys.executable, repository / "benchmarks/sdnn_long_audio.py", reference, "--repetitions", "2"]
    command += ["--chunk-seconds", "4", "--svg", tmp_path / "curve.svg"]
    completed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    rows = [line.split(" | ") for line in completed.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == ["1", "2"]
    assert all(11 < float(value) < 12 for row in rows for value in row[1:])
    assert (tmp_path / "curve.svg").read_text().count("<polyline") == 3
