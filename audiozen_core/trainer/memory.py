"""Memory that has run out and workers that are dead or too slow, told with what a person needs to mend it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Protocol

import torch

from audiozen_core.errors import RunError
from audiozen_core.hooks.progress import Progress

_SMALLER = (
    "set a smaller `batch_size` (`gradient_accumulation_steps` makes up for it) or shorter clips; "
    "the checkpoints are untouched"
)
_WORKER = re.compile(r"DataLoader worker \(pid\(?s?\)? .*?\) (?:is killed by signal: (?P<signal>[^.]*)|exited)")
_TIMED_OUT = re.compile(r"DataLoader timed out after (?P<seconds>\S+) seconds")
# Where torch asks a worker for the memory of a batch: of one that has just ended there is no more than a dead socket.
_ASKS_A_WORKER = "resource_sharer"


class Run(Protocol):
    """What a message tells of a run.

    Attributes:
        progress: how far it is.
        batch_size: samples in a batch.
        device: where the networks are.
    """

    progress: Progress
    batch_size: int | None
    device: torch.device


@contextmanager
def translate_memory_errors(run: Run) -> Iterator[None]:
    """Turns the error of a machine whose memory has run out into one with the batch size and the peak.

    Raises:
        RunError: the GPU or the computer was out of memory in the block, or a process that makes batches has died or
            was too slow for `timeout`.
    """
    try:
        yield
    except Exception as error:
        told = _told(run, error)
        if told is None:
            raise
        raise told from error


def _told(run: Run, error: BaseException | None) -> RunError | None:
    """What to tell of the error or of what has caused it: torch learns of a dead worker while a hook runs, too."""
    while error is not None:
        text = str(error)
        said = f"torch says: {text.splitlines()[0] if text else type(error).__name__}"
        if isinstance(error, torch.OutOfMemoryError):
            return RunError(f"the GPU is {_place(run)}{_gpu_peak(run)}", remedy=_SMALLER, notes=(said,))
        if isinstance(error, MemoryError) or "DefaultCPUAllocator" in text:
            return RunError(f"the computer is {_place(run)}{_peak()}", remedy=_SMALLER, notes=(said,))
        if match := _WORKER.search(text):
            how = f"was killed by the signal {match['signal']}" if match["signal"] else "has ended"
            return _dead_worker(run, how, said)
        if _is_of_a_dead_worker(error):
            return _dead_worker(run, "has ended", said)
        if match := _TIMED_OUT.search(text):
            return RunError(
                f"no batch was ready within `timeout = {match['seconds']}` seconds near {_where(run)}",
                remedy="set a longer `timeout` in `dataloader` (0 waits for ever), or more `num_workers`; "
                "with `num_workers = 0` it shows whether the data set hangs; the checkpoints are untouched",
                notes=(said,),
            )
        error = error.__cause__
    return None


def _dead_worker(run: Run, how: str, said: str) -> RunError:
    return RunError(
        f"a process that makes batches {how} near {_where(run)}",
        remedy="the system kills one when memory runs out: set fewer `num_workers` or a smaller `prefetch_factor`; "
        "with `num_workers = 0` an error or a `sys.exit` in the data set itself shows; the checkpoints are untouched",
        notes=(said,),
    )


def _is_of_a_dead_worker(error: BaseException) -> bool:
    if not isinstance(error, OSError | EOFError):
        # A thread that pins memory hands on the text of its error, with the traceback in it.
        return isinstance(error, RuntimeError) and _ASKS_A_WORKER in str(error)
    return any(frame.f_code.co_filename.endswith(f"{_ASKS_A_WORKER}.py") for frame, _ in walk_tb(error.__traceback__))


def _place(run: Run) -> str:
    return f"out of memory at {_where(run)}, with batches of {run.batch_size} samples"


def _where(run: Run) -> str:
    progress = run.progress
    return f"step {progress.step + 1} (epoch {progress.epoch + 1}, batch {progress.batch})"


def _gpu_peak(run: Run) -> str:
    if run.device.type != "cuda":
        return ""
    reached = torch.cuda.max_memory_allocated(run.device) / 2**30
    total = torch.cuda.get_device_properties(run.device).total_memory / 2**30
    return f"; at its peak the run held {reached:.2f} of {total:.2f} GiB"


def _peak() -> str:
    """The most that the process has held; where the system tells it in kibibytes, as Linux does."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import resource
        import sys

        unit = 1 if sys.platform == "darwin" else 1024
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return f"; at its peak the run held {held / 2**30:.2f} GiB"
    return ""
