"""Fixtures: an exported network, an empty working directory, and functions that call the command."""

import pytest
import torch
from safetensors.torch import save_file

from audiozen.model import CRN

ARGS = {"num_freqs": 65, "num_low": 8, "num_bands": 8, "hidden_size": 8}
CONFIG = """\
[meta]
save_dir = "exp"
[acoustics]
n_fft = 128
win_length = 128
hop_length = 64
[trainer]
path = "enhancement"
[model]
path = "crn"
args = {num_freqs = 65, num_low = 8, num_bands = 8, hidden_size = 8}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An exported network that has not been trained."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    (folder / "config.toml").write_text(CONFIG)
    save_file(CRN(**ARGS).state_dict(), folder / "model.safetensors")
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(audiozen):
    """Returns a function that runs a command, whose exit code must be the given one."""

    def run(*arguments, code=0):
        outcome = audiozen(*arguments)
        assert outcome.code == code, outcome
        return outcome

    return run


@pytest.fixture
def enhance(model, command):
    return lambda *arguments, code=0: command("enhance", model, "--device", "cpu", *arguments, code=code)
