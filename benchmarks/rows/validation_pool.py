"""A test with STOI and PESQ whose metrics are computed beside the network, and the same test without processes.

The network is GTCRN in one thread, as the recipe has it. The processes are as many as the default takes here, at least
one. Both sides read the same files, write no audio, and have imported everything before.
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
    """One row."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    logging.configure(level="error")  # the network is not trained
    workers = max(1, default_workers(torch.device("cpu"), 1))
    network = GTCRN()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pairs(folder, FILES)
        data = BatchLoader(NoisyCleanFolders(folder / "noisy", folder / "clean"), batch_size=1)

        def test(processes: int) -> float:
            # A trainer of its own, because one keeps the values of the noisy files.
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
