"""Errors for memory that runs out and for a data loader that fails, with what a user needs to mend them.

They are told apart by their type and by the code that raised them, never by their text, which differs from one version
of torch to the next.
"""

from __future__ import annotations

import contextlib
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
_LOADER = (
    "a killed worker often means that memory has run out: set fewer `num_workers` or a smaller `prefetch_factor`; if "
    "a batch took too long, set a longer `timeout` (0 waits without limit); with `num_workers = 0` an error in the "
    "data set itself shows; the checkpoints are untouched"
)


class Run(Protocol):
    """What these messages tell of a run.

    Attributes:
        progress: how far the training is.
        batch_size: the number of samples in a batch.
        device: where the networks are.
    """

    progress: Progress
    batch_size: int | None
    device: torch.device


@contextmanager
def translate_memory_errors(run: Run) -> Iterator[None]:
    """Turns an error of memory or of the data loader into one that names the place and what to do.

    Raises:
        RunError: the GPU or the computer was out of memory in the block, or the data loader failed: a worker died, or
            a batch took longer than `timeout`.
    """
    try:
        yield
    except Exception as error:
        translated = _translate(run, error)
        if translated is None:
            raise
        raise translated from error


def _translate(run: Run, error: BaseException | None) -> RunError | None:
    """The error to raise instead. Looks at causes too: torch notices a dead worker at any time, even within a hook."""
    while error is not None:
        text = str(error)
        notes = (f"torch says: {text.splitlines()[0] if text else type(error).__name__}",)
        out_of_memory = f"out of memory at {_place(run)}, with batches of {run.batch_size} samples"
        if isinstance(error, torch.OutOfMemoryError):
            return RunError(f"the GPU is {out_of_memory}{_gpu_peak(run)}", remedy=_SMALLER, notes=notes)
        if isinstance(error, MemoryError):
            return RunError(f"the computer is {out_of_memory}{_peak()}", remedy=_SMALLER, notes=notes)
        if _is_of_the_loader(error):
            return RunError(f"the data loader has failed near {_place(run)}", remedy=_LOADER, notes=notes)
        error = error.__cause__
    return None


def _is_of_the_loader(error: BaseException) -> bool:
    """Whether torch's data loader itself raised it, not a data set, whose errors pass through the loader."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    if type(error) is RuntimeError:
        return bool(modules) and modules[-1].startswith("torch.utils.data.")
    # A batch comes as a handle on the worker's memory: of a worker that has just ended only a dead socket is left.
    return isinstance(error, OSError | EOFError) and "multiprocessing.resource_sharer" in modules


def _place(run: Run) -> str:
    progress = run.progress
    return f"step {progress.step + 1} (epoch {progress.epoch + 1}, batch {progress.batch})"


def _gpu_peak(run: Run) -> str:
    if run.device.type != "cuda":
        return ""
    reached = torch.cuda.max_memory_allocated(run.device) / 2**30
    total = torch.cuda.get_device_properties(run.device).total_memory / 2**30
    return f"; at its peak the run held {reached:.2f} of {total:.2f} GiB"


def _peak() -> str:
    """The most memory that the process has held; "" on a system that does not tell."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import resource
        import sys

        unit = 1 if sys.platform == "darwin" else 1024
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return f"; at its peak the run held {held / 2**30:.2f} GiB"
    return ""
