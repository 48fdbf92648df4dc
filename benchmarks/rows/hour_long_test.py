"""Measures the peak memory of a test of one file that lasts an hour. The goal is 1 GiB.

The test uses the network of the recipe `mini_denoise/crn` and the metric SI-SDR. It must hold the noisy, the clean and
the enhanced signal in memory, because the metric needs whole signals. Each of them takes 230 MB.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.measuring import Goal, Row, compare, printed_bytes

CORPUS = Path(__file__).resolve().parents[2] / "recipes/mini_denoise/corpus/manifest.csv"
EXPERIMENT = """
[meta]
save_dir = "{folder}/exp"
num_threads = 1

[model]
path = "crn"

[acoustics]
window = "sqrt_hann"
hop_length = 256

[trainer]
path = "enhancement"
[trainer.args]
max_steps = 1
max_epochs = 1
metrics = ["si_sdr"]

[loss_function]
path = "si_snr"

[optimizer]
path = "torch.optim.Adam"

[dataset]
path = "noisy_speech_mix"
args = {{ manifest = "{corpus}", split = "train", clip_seconds = 1.0 }}

[test_dataset]
path = "noisy_clean_folders"
args = {{ noisy_dir = "{folder}/noisy", clean_dir = "{folder}/clean" }}
"""


def rows(rounds: int = 1) -> list[Row]:
    """Measures one row."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generator = np.random.default_rng(0)
        for kind in ("noisy", "clean"):
            (folder / kind).mkdir()
            with soundfile.SoundFile(folder / kind / "hour.wav", "w", 16000, 1, "PCM_16") as file:
                for _ in range(60):
                    file.write(0.1 * generator.standard_normal(60 * 16000))
        toml = folder / "hour.toml"
        toml.write_text(EXPERIMENT.format(folder=folder, corpus=CORPUS), encoding="utf-8")
        run(toml, "train")
        return [
            compare(
                "peak memory of a test of one file of an hour, SI-SDR",
                lambda: peak(toml),
                {"the goal, 1 GiB": lambda: 2**30},
                unit="MB",
                scale=1e-6,
                goal=Goal("at most", 1),
                rounds=rounds,
                warm_up=0,
            )
        ]


def run(toml: Path, mode: str) -> None:
    """Runs one mode of the experiment in its own process."""
    command = [sys.executable, "-m", "audiozen", "run", str(toml), "--mode", mode]
    subprocess.run(command, check=True, capture_output=True)


def peak(toml: Path) -> float:
    """Runs the test in its own process, and returns the peak memory of this process in bytes. Its imports count."""
    code = (
        "import atexit, sys; from benchmarks.measuring import peak_memory; from audiozen_core.cli.main import main; "
        "atexit.register(lambda: print(f'\\nmemory:{peak_memory()}')); sys.argv[0] = 'audiozen'; main()"
    )
    return printed_bytes([sys.executable, "-c", code, "run", str(toml), "--mode", "test"])
