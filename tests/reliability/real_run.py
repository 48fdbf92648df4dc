"""A run for the kill tests: `audiozen run` on real speech and noise, with workers that load the batches."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CORPUS = REPOSITORY / "recipes/mini_denoise/corpus"
STEPS_PER_EPOCH = 4

TOML = """\
[meta]
save_dir = "exp"
seed = 3
num_threads = 1

[acoustics]
sr = 16000
n_fft = 128
win_length = 128
hop_length = 64

[trainer]
path = "enhancement"
[trainer.args]
max_epochs = {epochs}
save_ckpt_interval_steps = 3
save_ckpt_async = true
max_num_checkpoints = 3
clip_grad_norm_value = 10
log_interval = 1

[loss_function]
path = "torch.nn.L1Loss"

[optimizer]
path = "torch.optim.Adam"
[optimizer.args]
lr = 1e-3

[lr_scheduler]
path = "torch.optim.lr_scheduler.OneCycleLR"
interval = "step"
[lr_scheduler.args]
max_lr = 1e-2
total_steps = {steps}

[model]
path = "sdnn"
[model.args]
num_freqs = 65
hidden_size = 16
max_delay = 4

[dataset]
path = "noisy_speech_mix"
[dataset.args]
manifest = "manifest.csv"
split = "train"
clip_seconds = 0.25
items_per_epoch = 16
[dataset.dataloader]
batch_size = 4
num_workers = 2

[validate_dataset]
path = "noisy_speech_mix"
[validate_dataset.args]
manifest = "manifest.csv"
split = "validate"
clip_seconds = 0.5
snrs = [0]

[[hooks]]
path = "reports.Reports"
"""

# Reports the progress of the run to the test. Each line is one system call, so a kill never cuts a line in two.
REPORTS = """\
import os

from audiozen_core.hooks.marker import hookimpl


def report(what):
    os.write(1, f"{what}\\n".encode())


class Reports:
    phase = "precision"

    @hookimpl
    def on_setup(self):
        report("built")

    @hookimpl
    def on_run_start(self):
        report("started")

    @hookimpl
    def on_training_step_end(self, trainer):
        report(f"step {trainer.progress.step}")

    @hookimpl
    def on_evaluation_step_end(self):
        report("validating")

    @hookimpl
    def on_run_end(self):
        report("end")
"""


def make_project(folder: Path, epochs: int) -> Path:
    """Creates a folder with `run.toml`, the reporting hook, and a manifest of a few recordings."""
    folder.mkdir()
    (folder / "run.toml").write_text(TOML.format(epochs=epochs, steps=epochs * STEPS_PER_EPOCH))
    (folder / "reports.py").write_text(REPORTS)
    with (CORPUS / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    few = []
    for split, role in {(row["split"], row["role"]) for row in rows if row["split"] in ("train", "validate")}:
        few += [row for row in rows if (row["split"], row["role"]) == (split, role)][: 6 if split == "train" else 2]
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows({**row, "file": str(CORPUS / row["file"])} for row in sorted(few, key=lambda row: row["file"]))
    return folder


def start(project: Path, *arguments: str) -> subprocess.Popen[str]:
    """Starts `audiozen run run.toml` in its own process group."""
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("audiozen")), "run", "run.toml", *arguments],
        cwd=project,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
