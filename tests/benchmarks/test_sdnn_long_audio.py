"""The benchmark measures each repetition, and draws the curves."""

import subprocess
import sys

import pytest
import torch

from audiozen_plugins.model.sdnn import SDNN
from benchmarks.sdnn_long_audio import scores


def test_whole_file_of_more_than_a_minute_is_passed_to_the_network_at_once():
    lengths, network = [], SDNN(hidden_size=4)
    network.register_forward_hook(lambda module, arguments, output: lengths.append(arguments[0].shape[-1]))
    noisy = torch.randn(5 * 16_000)
    assert len(scores(network, noisy, noisy, 13)) == 13
    whole = lengths.pop()
    assert not lengths
    assert whole >= 13 * 5 * 16_000 // 128
    scores(network, noisy, noisy, 13, 10.0)
    assert len(lengths) > 6  # negative control


@pytest.mark.slow
def test_benchmark_prints_the_score_of_each_repetition_and_draws_it(repository, reference, tmp_path):
    command = [sys.executable, repository / "benchmarks/sdnn_long_audio.py", reference, "--repetitions", "2"]
    command += ["--chunk-seconds", "4", "--svg", tmp_path / "curve.svg"]
    completed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    rows = [line.split(" | ") for line in completed.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == ["1", "2"]
    assert all(11 < float(value) < 12 for row in rows for value in row[1:])
    assert (tmp_path / "curve.svg").read_text().count("<polyline") == 3
