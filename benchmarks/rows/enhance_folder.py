"""Compares enhancing a folder, as `audiozen enhance` does it, with running only the network, in one and two processes.

The peer calls the network with the spectrum of each file, one file at a time. It reads no files and computes no STFT.
The time from the first file to the last file is measured; imports don't count. With two processes, each process of the
peer has half of the files, and the time before both processes have started does not count. For AudioZEN, the start of
the processes does count. So there are more files, as in a folder that is worth two processes. Both sides keep freed
memory, as the command does.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from audiozen_core import logging
from audiozen_core.audio.files import audio_info, read_audio
from audiozen_core.inference.enhancer import Enhancer
from audiozen_core.inference.inputs import Job, list_jobs
from audiozen_core.inference.jobs import Options, enhance_jobs
from audiozen_core.inference.load import load
from audiozen_core.scoring.worker_pool import keep_freed_memory
from audiozen_plugins.model.gtcrn import GTCRN
from benchmarks.measuring import Goal, Row, compare, cpu_seconds
from benchmarks.measuring import seconds as measured
from benchmarks.noisy_speech import write_pairs

FILES = 24
FILES_OF_TWO = 96  # for two processes
CONFIG = """
[model]
path = "gtcrn"
[trainer]
path = "enhancement"
"""


def rows(rounds: int = 5) -> list[Row]:
    """Measures three rows: the CPU time and the wall-clock time of one process, and the wall-clock time of two."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()
    logging.configure(level="error")  # the network is not trained, so there may be warnings about clipping
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pairs(folder, FILES_OF_TWO)
        model = _network(folder / "model")
        jobs = list_jobs([str(folder / "noisy")], folder / "listed")
        spectra = [_spectrum(model, job) for job in jobs]

        def enhance(share: Sequence[int], num_workers: int = 0) -> None:
            # A new folder each time, because files whose results exist would be skipped.
            output = Path(tempfile.mkdtemp(dir=folder))
            own = [_moved(jobs[index], output) for index in share]
            enhance_jobs(model, own, output, Options(), num_workers=num_workers)

        def alone(share: Sequence[int]) -> None:
            with torch.no_grad():
                for index in share:
                    model.network(spectra[index])

        def row(files: int, how: str, unit: str, ours: Callable[[], float], peer: Callable[[], float]) -> Row:
            seconds = sum(audio_info(job.source).seconds for job in jobs[:files])
            return compare(
                f"enhancing {files} files ({seconds:.0f} s) with GTCRN, {how}",
                ours,
                {"the network alone": peer},
                unit=unit,
                goal=Goal("at most", 1 / 0.9),
                rounds=rounds,
            )

        few, many = range(FILES), range(FILES_OF_TWO)
        return [
            row(FILES, "one process", "s of CPU", lambda: cpu_seconds(lambda: enhance(few)),
                lambda: cpu_seconds(lambda: alone(few))),
            row(FILES, "one process", "s", lambda: measured(lambda: enhance(few)),
                lambda: measured(lambda: alone(few))),
            row(FILES_OF_TWO, "two processes", "s", lambda: measured(lambda: enhance(many, 2)),
                lambda: _in_processes(alone, many, 2)),
        ]  # fmt: skip


def _network(folder: Path) -> Enhancer:
    """Saves a network with random weights, and loads it like `audiozen enhance`."""
    folder.mkdir()
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
    save_file(GTCRN().state_dict(), folder / "model.safetensors")
    return load(folder, device="cpu")


def _spectrum(model: Enhancer, job: Job) -> Tensor:
    """Returns the spectrum that the network gets as its input for a file."""
    given: list[Tensor] = []
    handle = model.network.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].clone()))
    model.enhance(read_audio(job.source, sr=model.sr), model.sr)
    handle.remove()
    (spectrum,) = given
    return spectrum


def _moved(job: Job, output: Path) -> Job:
    return Job(job.source, output / job.target.name, job.name)


def _in_processes(work: Callable[[Sequence[int]], None], files: Sequence[int], number: int) -> float:
    """Divides the files among `number` processes, and returns the wall-clock time of the work in seconds."""
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(number + 1, timeout=120)  # a process that fails breaks the barrier, so nobody waits for ever

    def share(first: int) -> None:
        try:
            torch.set_num_threads(1)
            gate.wait()
            work(files[first::number])
            gate.wait()
        except BaseException:
            gate.abort()
            raise

    processes = [context.Process(target=share, args=(first,)) for first in range(number)]
    for process in processes:
        process.start()
    gate.wait()
    start = time.perf_counter()
    gate.wait()
    spent = time.perf_counter() - start
    for process in processes:
        process.join()
        if process.exitcode:
            raise RuntimeError(f"a process ended with the exit code {process.exitcode}")
    return spent
