"""The memory that evaluations of long files need, in a process of its own, because a process only knows its peak."""

import subprocess
import sys

import pytest

SCRIPT = """
import re
import sys
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import nn

from audiozen_core.config.sections import Meta
from audiozen_core.data.loader import BatchLoader
from audiozen_core.experiment.process import prepare_process
from audiozen_core.trainer.components import Components
from audiozen_plugins.dataset.audio_folder import AudioFolder
from audiozen_plugins.dataset.noisy_clean_folders import NoisyCleanFolders
from audiozen_plugins.trainer.enhancement import EnhancementTrainer

folder, mode = Path(sys.argv[1]), sys.argv[2]
prepare_process(Meta(save_dir="exp", device="cpu", num_threads=1))
trainer = EnhancementTrainer(
    Components({"": nn.Conv1d(1, 1, 1)}, folder=folder), domain="waveform", add_channel=True, metrics=["si_sdr"],
    chunk_seconds=10,
)


def write(name, minutes, count):
    generator = np.random.default_rng(0)
    for kind in ("noisy", "clean"):
        for number in range(count):
            path = folder / name / kind / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            with soundfile.SoundFile(path, "w", 16000, 1, "PCM_16") as file:
                for _ in range(minutes):
                    file.write(0.1 * generator.standard_normal(60 * 16000))


def peak(name):
    root = folder / name
    data = AudioFolder(root / "noisy") if mode == "predict" else NoisyCleanFolders(root / "noisy", root / "clean")
    getattr(trainer, mode)([BatchLoader(data, collate_fn=data.collate_fn)])
    # `ru_maxrss` would begin with the memory of the process that has started this one.
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])


write("short", 1, 1)
write("long", 6, 2)
short = peak("short")
print((peak("long") - short) / (5 * 60 * 16000))
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize(("mode", "signals"), [("test", 3), ("predict", 1)])
def test_evaluation_holds_each_signal_of_a_long_file_once(tmp_path, mode, signals):
    """A test holds noisy, clean and enhanced, and a prediction the noisy signal, with 4 bytes for each sample."""
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), mode]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    growth, compiler = done.stdout.splitlines()[-2:]
    # Less than another copy of a signal. A part of the memory is the working memory of the short file, used again.
    assert 2 * signals < float(growth) < 4 * signals + 3
    assert compiler == "False"
