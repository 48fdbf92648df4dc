"""Compares `audiozen evaluate`, with one worker process for each core, with a plain Python loop on one core.

Both compute SI-SDR, STOI and wide-band PESQ of noisy speech with the same packages. A run with a few files and a run
with many files give the start-up time (Python, imports, worker processes) and the time for each file. From both, the
time for 824 files is computed, which is the size of the test set of VoiceBank+DEMAND. The first row shows wall-clock
time, and the second row shows the CPU time of all processes. Two rows without a goal show the bound: the CPU time of
each further file, and the wall-clock time of the run with a few files, which is nearly all start-up.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from audiozen_core.distributed.cpus import usable_cpus
from benchmarks.measuring import Goal, Row, row_of
from benchmarks.noisy_speech import write_pairs

FEW, MANY, WHOLE = 2, 50, 824

LOOP = """
import sys
from pathlib import Path
import numpy as np
import soundfile
from pesq import pesq
from pystoi import stoi

def si_sdr(estimate, reference):
    estimate, reference = estimate - estimate.mean(), reference - reference.mean()
    target = (estimate @ reference) / (reference @ reference) * reference
    return 10 * np.log10((target @ target) / ((estimate - target) @ (estimate - target)))

noisy, clean = map(Path, sys.argv[1:])
scores = []
for path in sorted(noisy.iterdir()):
    estimate, sr = soundfile.read(path)
    reference, _ = soundfile.read(clean / path.name)
    scores.append((si_sdr(estimate, reference), stoi(reference, estimate, sr), pesq(sr, reference, estimate, "wb")))
print(np.mean(scores, axis=0))
"""


def rows(rounds: int = 4) -> list[Row]:
    """Measures the wall-clock time, the CPU time, and two rows for the bound."""
    workers = usable_cpus()
    with tempfile.TemporaryDirectory() as name:
        folders = {count: Path(name) / str(count) for count in (FEW, MANY)}
        for count, folder in folders.items():
            folder.mkdir()
            write_pairs(folder, count)

        def command(side: str, folder: Path) -> list[str]:
            noisy, clean = str(folder / "noisy"), str(folder / "clean")
            if side == "loop":
                return [sys.executable, "-c", LOOP, noisy, clean]
            options = ["--metrics", "si_sdr,stoi,pesq", "--no-cache", "--num-workers", str(workers)]
            return [sys.executable, "-m", "audiozen", "evaluate", noisy, "--clean", clean, *options]

        measured: dict[str, list[_Times]] = {"ours": [], "loop": []}
        for count in range(rounds):
            for side, times in list(measured.items())[:: -1 if count % 2 else 1]:
                times.append(_Times(*(_run(command(side, folder)) for folder in folders.values())))

    def row(what: str, figure: Callable[[_Times], float], peer: str, unit: str, limit: float | None = None) -> Row:
        ours, theirs = ([figure(times) for times in measured[side]] for side in ("ours", "loop"))
        return row_of(what, ours, peer, theirs, unit=unit, goal=None if limit is None else Goal("at most", limit))

    whole, loop = f"scoring {WHOLE} files (computed from {FEW} and {MANY})", "a plain loop"
    clock, limit = f"{whole} on {workers} cores: SI-SDR, STOI, PESQ", 1 / (0.9 * workers)
    return [
        row(clock, _Times.wall, f"{loop} on one core", "s", limit),
        row(f"{whole}, CPU time of all processes", _Times.cpu, loop, "s of CPU", 1.1),
        row("scoring, each further file", lambda times: times.slope(1), loop, "s of CPU"),
        row(f"scoring {FEW} files, start to end", lambda times: times.few[0], loop, "s"),
    ]


class _Times(NamedTuple):
    """The wall-clock time and the CPU time of a run with few files, and of a run with many files, in seconds."""

    few: tuple[float, float]
    many: tuple[float, float]

    def slope(self, kind: int) -> float:
        """The time of each further file."""
        return (self.many[kind] - self.few[kind]) / (MANY - FEW)

    def wall(self) -> float:
        """The wall-clock time for all files."""
        return self.few[0] + (WHOLE - FEW) * self.slope(0)

    def cpu(self) -> float:
        """The CPU time for all files."""
        return self.few[1] + (WHOLE - FEW) * self.slope(1)


def _run(command: list[str]) -> tuple[float, float]:
    """Runs a command, and returns its wall-clock time and its CPU time in seconds. Its child processes count."""
    start = time.perf_counter()
    before = os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, cpu
