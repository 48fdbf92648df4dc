"""Measures the start of training with a manifest of a million recordings, and the memory of a worker process.

AudioZEN makes the data set `noisy_speech_mix` and its loader, and reads the first batch. The peer stores the rows of
the manifest as most data sets do, as a list of dicts from `csv.DictReader`. It reads the same files with a plain
`DataLoader`, checks nothing and makes no IDs. Each start runs in its own process. Only memory that the process does not
share with other processes counts. A worker process starts with the shared memory of its parent, and copies each page
that it changes. It looks up 1,000,000 rows at random.

The manifest lists 1,000 files 1,000 times each, because a million files would take minutes to write. Only the first
start reads the header of each file, so it is measured once, with the headers of these 1,000 files. A further row
measures how long one header takes. The memory of the first start is by how much it raises the peak of the process.
"""

from __future__ import annotations

import csv
import functools
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import numpy as np
import soundfile
from torch.utils.data import DataLoader, Dataset

from audiozen.dataset import NoisySpeechMix
from audiozen_core.audio.files import audio_info
from audiozen_core.data.loader import BatchLoader
from audiozen_plugins.dataset import pool
from benchmarks.measuring import Goal, Row, compare, cpu_seconds, peak_memory, reset_peak, row_of

ROWS, FILES, NOISES, SR, BATCH = 1_000_000, 1_000, 10, 16000, 16
LOOKED_UP = 1_000_000
COLUMNS = ("file", "role", "voice", "kind", "split")


def rows(rounds: int = 2) -> list[Row]:
    """Measures three rows for the first start, and three rows for later starts.

    The first start has the time, the peak of the memory, and the time for a header. Later starts have the time, the
    memory of the process, and the memory of a worker.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder)
        environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}

        def start(side: str) -> dict[str, float]:
            command = [sys.executable, "-m", "benchmarks.rows.million_files", side, str(folder)]
            ended = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            figures: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
            return figures

        first, first_peer = start("first"), start("peer")
        starts: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
        for count in range(rounds):
            for side in reversed(starts) if count % 2 else starts:
                starts[side].append(start(side))
        files = [folder / f"{number}.wav" for number in range(FILES)]
        header = compare(
            "1,000,000 files listed, first start: each further header",
            lambda: cpu_seconds(lambda: [audio_info(file) for file in files]),
            {"soundfile.info": lambda: cpu_seconds(lambda: [soundfile.info(str(file)) for file in files])},
            unit="µs of CPU",
            scale=1e6 / FILES,
            goal=None,
            rounds=10 * rounds,
        )

    def first_row(what: str, figure: str, unit: str, limit: float) -> Row:
        what = f"1,000,000 files listed, first start: {what}"
        goal = Goal("at most", limit, "ours")
        return row_of(what, [first[figure]], "rows of csv in a list", [first_peer[figure]], unit=unit, goal=goal)

    def row(what: str, figure: str, unit: str, limit: float) -> Row:
        turns = {side: iter(found) for side, found in starts.items()}
        return compare(
            what,
            lambda: next(turns["ours"])[figure],
            {"rows of csv in a list": lambda: next(turns["peer"])[figure]},
            unit=unit,
            goal=Goal("at most", limit, "ours"),
            rounds=rounds,
            warm_up=0,
        )

    million = "1,000,000 files listed, later start"
    return [
        first_row("1,000 headers read", "seconds", "s of CPU", 1.0),
        first_row("peak of the memory", "peak", "MiB", 200.0),
        header,
        row(f"{million}: until the first batch", "seconds", "s of CPU", 1.0),
        row(f"{million}: memory of the process", "process", "MiB", 200.0),
        row(f"{million}: memory of a worker", "worker", "MiB", 10.0),
    ]


def _write(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(FILES):
        soundfile.write(folder / f"{number}.wav", 0.1 * rng.standard_normal(2 * SR), SR, subtype="PCM_16")
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(NOISES):
            writer.writerow((f"{number}.wav", "noise", "", f"kind{number}", "train"))
        for number in range(ROWS):
            writer.writerow((f"{number % FILES}.wav", "speech", f"voice{number // 200}", "", "train"))
    # AudioZEN does not cache a manifest that was written only a moment ago.
    time.sleep(2.5)


def _first(folder: Path) -> tuple[Any, Callable[[int], object]]:
    with mock.patch.object(pool, "audio_info", functools.lru_cache(None)(audio_info)):
        return _ours(folder)


def _ours(folder: Path) -> tuple[Any, Callable[[int], object]]:
    data = NoisySpeechMix(manifest=folder / "manifest.csv", clip_seconds=1.0)
    loader = BatchLoader(data, batch_size=BATCH, shuffle=True)
    first = loader.epoch(1)
    next(first)
    return (data, first), data.speech.recordings.__getitem__


class _Plain(Dataset[Any]):
    def __init__(self, manifest: Path) -> None:
        with manifest.open(newline="") as file:
            found = list(csv.DictReader(file))
        self.folder = manifest.parent
        self.speech = [row for row in found if row["role"] == "speech"]
        self.noise = [row for row in found if row["role"] == "noise"]

    def __len__(self) -> int:
        return len(self.speech)

    def __getitem__(self, index: int) -> np.ndarray:
        waves = []
        for row in (self.speech[index], random.choice(self.noise)):
            with soundfile.SoundFile(str(self.folder / row["file"])) as file:
                file.seek(random.randrange(file.frames - SR + 1))
                waves.append(file.read(SR, dtype="float32"))
        mixture: np.ndarray = waves[0] + waves[1]
        return mixture


def _peer(folder: Path) -> tuple[Any, Callable[[int], object]]:
    data = _Plain(folder / "manifest.csv")
    first = iter(DataLoader(data, batch_size=BATCH, shuffle=True))
    next(first)

    def look_up(index: int) -> object:
        row = data.speech[index]
        return data.folder / row["file"], row["voice"], row["kind"]

    return (data, first), look_up


def _own_mib(kind: Literal["Private", "Private_Dirty"]) -> float:
    """Returns the memory in MiB that this process does not share.

    `Private` includes unchanged pages of files, which the operating system may drop. `Private_Dirty` does not.
    """
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024


def _measure(make: Callable[[Path], tuple[Any, Callable[[int], object]]], folder: Path) -> dict[str, float]:
    gc.collect()
    idle = _written_by_a_worker(lambda _: None)
    before, peak, start = _own_mib("Private"), reset_peak(), time.process_time()
    kept, look_up = make(folder)
    seconds = time.process_time() - start
    figures = {"seconds": seconds, "process": _own_mib("Private") - before, "peak": (peak_memory() - peak) / 2**20}
    # The garbage collector of a worker writes to the objects of all imported modules, too. This memory does not count.
    figures["worker"] = _written_by_a_worker(look_up) - idle
    del kept
    return figures


def _written_by_a_worker(look_up: Callable[[int], object]) -> float:
    """Returns the memory in MiB that a forked process does not share after it has looked up many rows."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        rng = random.Random(0)
        for _ in range(LOOKED_UP):
            look_up(rng.randrange(ROWS))
        gc.collect()
        os.write(writer, json.dumps(_own_mib("Private_Dirty")).encode())
        os._exit(0)
    os.close(writer)
    found: float = json.loads(os.read(reader, 100))
    os.close(reader)
    os.wait()
    return found


if __name__ == "__main__":
    makes = {"first": _first, "ours": _ours, "peer": _peer}
    print(json.dumps(_measure(makes[sys.argv[1]], Path(sys.argv[2]))))
