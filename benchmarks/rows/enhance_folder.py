"""Compares enhancing a folder, as `audiozen enhance` does it, with running only the network, in one and two processes.

The peer calls the network with the spectrum of each file, one file at a time. It reads no files and computes no STFT.
The time from the first file to the last file is measured; imports don't count. With two processes, each process of the
peer has half of the files, and the time before both processes have started does not count. For AudioZEN, the start of
the processes does count. So there are more files, as in a folder that is worth two processes. Both sides keep freed
memory, as the command does.

Rows without a goal show the bound. In one, AudioZEN enhances with a network that returns its input, so only what
AudioZEN adds is measured. Two others are about two processes: the CPU time of all processes, and the wall-clock time to
start and end two processes that do nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from audiozen_core import logging
from audiozen_core.audio.files import audio_info, read_audio
from audiozen_core.inference.enhancer import Enhancer
from audiozen_core.inference.inputs import Job, list_jobs
from audiozen_core.inference.jobs import Options, enhance_jobs
from audiozen_core.inference.load import load
from audiozen_core.scoring.worker_pool import keep_freed_memory, run_jobs
from audiozen_plugins.model.gtcrn import GTCRN
from benchmarks.measuring import Goal, Row, alternate, compare, cpu_seconds, row_of
from benchmarks.measuring import seconds as measured
from benchmarks.noisy_speech import write_pairs

FILES = 24
FILES_OF_TWO = 96  # for two processes
CONFIG = """
[model]
path = "{path}"
[trainer]
path = "enhancement"
"""


class Unchanged(nn.Module):
    """A network that returns its input, spectra as for GTCRN."""

    domain, layout = GTCRN.domain, GTCRN.layout

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, noisy: Tensor) -> Tensor:
        """Returns its input."""
        return noisy


def rows(rounds: int = 5) -> list[Row]:
    """Measures the CPU time and the wall-clock time of one process and of two, and the CPU time without a network."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()
    logging.configure(level="error")  # the network is not trained, so there may be warnings about clipping
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pairs(folder, FILES_OF_TWO)
        model = _network(folder / "model", "gtcrn", GTCRN())
        unchanged = _network(folder / "unchanged", f"{__name__}.Unchanged", Unchanged())
        jobs = list_jobs([str(folder / "noisy")], folder / "listed")
        spectra = [_spectrum(model, job) for job in jobs]

        def enhance(share: Sequence[int], num_workers: int = 0, model: Enhancer = model) -> None:
            # A new folder each time, because files whose results exist would be skipped.
            output = Path(tempfile.mkdtemp(dir=folder))
            own = [_moved(jobs[index], output) for index in share]
            enhance_jobs(model, own, output, Options(), num_workers=num_workers)

        def alone(share: Sequence[int]) -> None:
            with torch.no_grad():
                for index in share:
                    model.network(spectra[index])

        def start_and_end() -> None:
            for _ in run_jobs(lambda step: step, [[0], [1]], workers=2):
                pass

        def name_of(files: int, how: str) -> str:
            seconds = sum(audio_info(job.source).seconds for job in jobs[:files])
            return f"enhancing {files} files ({seconds:.0f} s) with {how}"

        few, many = range(FILES), range(FILES_OF_TWO)
        goal, gtcrn = Goal("at most", 1 / 0.9), "GTCRN alone"

        def one(how: str, model: Enhancer, cost: Callable[[Callable[[], object]], float], unit: str,
                goal: Goal | None) -> Row:  # fmt: skip
            peers = {gtcrn: lambda: cost(lambda: alone(few))}
            what, ours = name_of(FILES, how), lambda: cost(lambda: enhance(few, model=model))
            return compare(what, ours, peers, unit=unit, goal=goal, rounds=rounds)

        of_one = [
            one("GTCRN, one process", model, cpu_seconds, "s of CPU", goal),
            one("GTCRN, one process", model, measured, "s", goal),
            one("a network that returns its input", unchanged, cpu_seconds, "s of CPU", None),
        ]

        cpu: dict[str, list[float]] = {"ours": [], gtcrn: []}

        def noting(side: str, clock: Callable[[], float]) -> float:
            """Returns the wall-clock time of a side, and notes the CPU time of all its processes."""
            before = os.times()
            seconds = clock()
            cpu[side].append(sum(os.times()[:4]) - sum(before[:4]))
            return seconds

        ours, others = alternate(
            lambda: noting("ours", lambda: measured(lambda: enhance(many, 2))),
            {
                gtcrn: lambda: noting(gtcrn, lambda: _in_processes(alone, many, 2)),
                "nothing": lambda: measured(start_and_end),
            },
            rounds=rounds,
            warm_up=0,  # the network has run above
        )
        what, idle = name_of(FILES_OF_TWO, "GTCRN, two processes"), "starting and ending two processes that do nothing"
        return [
            *of_one,
            row_of(what, ours, gtcrn, others[gtcrn], unit="s", goal=goal),
            row_of(what, cpu["ours"], gtcrn, cpu[gtcrn], unit="s of CPU", goal=None),
            row_of(idle, others["nothing"], f"{gtcrn}, {FILES_OF_TWO} files", others[gtcrn], unit="s", goal=None),
        ]


def _network(folder: Path, path: str, network: nn.Module) -> Enhancer:
    """Saves a network with random weights, and loads it like `audiozen enhance`."""
    folder.mkdir()
    (folder / "config.toml").write_text(CONFIG.format(path=path), encoding="utf-8")
    save_file(network.state_dict(), folder / "model.safetensors")
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
