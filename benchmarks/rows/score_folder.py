"""Compares `audiozen evaluate`, with one worker process for each core, with a plain Python loop on one core.

Both compute SI-SDR, STOI and wide-band PESQ of noisy speech with the same packages. A run with a few files and a run
with many files give the start-up time (Python, imports, worker processes) and the time for each file. From both, the
time for 824 files is computed, which is the size of the test set of VoiceBank+DEMAND. The first row shows wall-clock
time, and the second row shows the CPU time of all processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from audiozen_core.distributed.cpus import usable_cpus
from benchmarks.measuring import Goal, Row, compare
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


def rows(rounds: int = 2) -> list[Row]:
    """Measures two rows: wall-clock time and CPU time."""
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

        spent: dict[str, list[float]] = {"ours": [], "loop": []}

        def clock(side: str) -> float:
            few, many = (_run(command(side, folder)) for folder in folders.values())
            per_file = [(two - one) / (MANY - FEW) for one, two in zip(few, many, strict=True)]
            wall, cpu = (one + (WHOLE - FEW) * slope for one, slope in zip(few, per_file, strict=True))
            spent[side].append(cpu)
            return wall

        by_clock = compare(
            f"scoring {WHOLE} files on {workers} cores: SI-SDR, STOI, PESQ",
            lambda: clock("ours"),
            {"a plain loop on one core": lambda: clock("loop")},
            unit="s",
            goal=Goal("at most", 1 / (0.9 * workers)),
            rounds=rounds,
            warm_up=0,
        )
        by_cpu = compare(
            f"scoring {WHOLE} files, CPU time of all processes",
            lambda: spent["ours"].pop(0),
            {"a plain loop": lambda: spent["loop"].pop(0)},
            unit="s of CPU",
            goal=Goal("at most", 1.1),
            rounds=rounds,
            warm_up=0,
        )
    return [by_clock, by_cpu]


def _run(command: list[str]) -> tuple[float, float]:
    """Runs a command, and returns its wall-clock time and its CPU time in seconds. Its child processes count."""
    start = time.perf_counter()
    before = os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, cpu
