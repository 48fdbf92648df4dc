"""Fixtures: a tiny experiment on generated audio, and a function that calls the command line in this process."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from audiozen_core.cli.main import main
from audiozen_core.trainer import sample_files

RATE = 16000

TOML = """\
[meta]
save_dir = "exp"
seed = 1

[acoustics]
sr = 16000
n_fft = 128
win_length = 128
hop_length = 64

[trainer]
path = "enhancement"
[trainer.args]
max_epochs = 2
metrics = ["si_sdr"]

[model]
path = "sdnn"
[model.args]
num_freqs = 65
hidden_size = 8
max_delay = 4

[loss_function]
path = "torch.nn.L1Loss"

[optimizer]
path = "torch.optim.Adam"
[optimizer.args]
lr = 1e-3

[dataset]
path = "noisy_clean_folders"
[dataset.args]
noisy_dir = "data/noisy"
clean_dir = "data/clean"
clip_seconds = 0.125
[dataset.dataloader]
batch_size = 2

[validate_dataset]
path = "noisy_clean_folders"
[validate_dataset.args]
noisy_dir = "data/noisy"
clean_dir = "data/clean"

[test_dataset]
path = "noisy_clean_folders"
[test_dataset.args]
noisy_dir = "data/noisy"
clean_dir = "data/clean"

[predict_dataset]
path = "audio_folder"
[predict_dataset.args]
folder = "data/noisy"
"""


def write_pairs(folder: Path, count: int = 4, rate: int = RATE, names: str = "clip_{}.wav") -> None:
    """Writes tones to `clean/`, and the same tones with added noise to `noisy/`."""
    generator = np.random.default_rng(0)
    for kind in ("noisy", "clean"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        clean = 0.2 * np.sin(np.arange(4000) * (0.05 + 0.03 * index))
        noisy = clean + 0.05 * generator.standard_normal(4000)
        soundfile.write(folder / "clean" / names.format(index), clean, rate)
        soundfile.write(folder / "noisy" / names.format(index), noisy, rate)


def write_project(folder: Path) -> None:
    """Writes `tiny.toml` and the audio files that it uses."""
    write_pairs(folder / "data")
    (folder / "tiny.toml").write_text(TOML)


@dataclass
class Outcome:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch):
    """Replaces the spectrograms of samples, which take longer than the training."""
    monkeypatch.setattr(sample_files, "draw_sheet", lambda *_: Image.new("RGB", (8, 8)))


@pytest.fixture
def audiozen(monkeypatch, capsys):
    """Returns a function that runs `audiozen` with the given arguments in this process."""

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["audiozen", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return Outcome(int(stop.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Creates a working directory that contains `tiny.toml` and the audio files that it uses."""
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path)
    return tmp_path
