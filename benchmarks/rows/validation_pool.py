"""Compares a test whose metrics are computed in other processes with a test that computes them in the main process.

The metrics are SI-SDR, STOI and PESQ. The network is GTCRN on one thread, as in its recipe. The number of processes is
AudioZEN's default on this machine, but at least one. Both tests read the same files, and write no audio. Imports don't
count.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from pathlib import Path

import torch

from audiozen_core import logging
from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.data.loader import BatchLoader
from audiozen_core.scoring.rating_pool import default_workers
from audiozen_core.trainer.components import Components
from audiozen_plugins.dataset.noisy_clean_folders import NoisyCleanFolders
from audiozen_plugins.model.gtcrn import GTCRN
from audiozen_plugins.trainer.enhancement import EnhancementTrainer
from benchmarks.measuring import Goal, Row, compare
from benchmarks.noisy_speech import write_pairs

FILES = 24


def rows(rounds: int = 4) -> list[Row]:
    """Measures one row."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    logging.configure(level="error")  # hides the warnings about the untrained network
    workers = max(1, default_workers(torch.device("cpu"), 1))
    network = GTCRN()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pairs(folder, FILES)
        data = BatchLoader(NoisyCleanFolders(folder / "noisy", folder / "clean"), batch_size=1)

        def test(processes: int) -> float:
            # A new trainer each time, because a trainer remembers the metrics of the noisy files.
            trainer = EnhancementTrainer(
                Components(
                    {"": network},
                    acoustics=Acoustics(n_fft=512, win_length=512, hop_length=256, window="sqrt_hann"),
                    folder=Path(tempfile.mkdtemp(dir=folder)),
                ),
                metrics=["si_sdr", "stoi", "pesq"],
                save_enhanced=False,
                metric_workers=processes,
            )
            start = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                trainer.test([data])
            return time.perf_counter() - start

        return [
            compare(
                f"test of {FILES} files, STOI and PESQ in {workers} processes",
                lambda: test(workers),
                {"without processes": lambda: test(0)},
                unit="s",
                goal=Goal("at most", 0.7),
                rounds=rounds,
            )
        ]
