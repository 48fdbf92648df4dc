"""Errors for memory that runs out and for a data loader that fails, with what a user needs to mend them.

The type of an error and the code that raised it tell what it is. Its text does not, because torch changes it between
versions.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb

import torch

from audiozen_core.errors import RunError
from audiozen_core.trainer.parts import Parts

_SMALLER = (
    "set a smaller `batch_size` (`gradient_accumulation_steps` makes up for it) or shorter clips; "
    "the checkpoints are untouched"
)
_LOADER = (
    "a killed worker often means that memory has run out: set fewer `num_workers` or a smaller `prefetch_factor`; if "
    "a batch took too long, set a longer `timeout` (0 waits without limit); with `num_workers = 0` an error in the "
    "data set itself shows; the checkpoints are untouched"
)


@contextmanager
def translate_memory_errors(trainer: Parts) -> Iterator[None]:
    """Turns an error of memory or of the data loader into one that names the place and what to do.

    Raises:
        RunError: the GPU or the computer was out of memory in the block, or the data loader failed: a worker died, or
            a batch took longer than `timeout`.
    """
    try:
        yield
    except Exception as error:
        translated = _translate(trainer, error)
        if translated is None:
            raise
        raise translated from error


def _translate(trainer: Parts, error: BaseException | None) -> RunError | None:
    """The error to raise instead. Looks at causes too: torch notices a dead worker at any time, even within a hook."""
    while error is not None:
        text = str(error)
        notes = (f"torch says: {text.splitlines()[0] if text else type(error).__name__}",)
        if isinstance(error, torch.OutOfMemoryError):
            return RunError(f"the GPU {_is_full(trainer, trainer.device)}", remedy=_SMALLER, notes=notes)
        if isinstance(error, MemoryError):
            return RunError(f"the computer {_is_full(trainer, torch.device('cpu'))}", remedy=_SMALLER, notes=notes)
        if _was_raised_by_loader(error):
            return RunError(f"the data loader has failed near {_place(trainer)}", remedy=_LOADER, notes=notes)
        error = error.__cause__
    return None


def _was_raised_by_loader(error: BaseException) -> bool:
    """Whether torch's data loader itself raised it, not a data set, whose errors pass through the loader."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    if type(error) is RuntimeError:
        return bool(modules) and modules[-1].startswith("torch.utils.data.")
    # A worker sends a batch as a handle on its memory, through a socket that is dead if the worker has just ended.
    return isinstance(error, OSError | EOFError) and "multiprocessing.resource_sharer" in modules


def _place(trainer: Parts) -> str:
    progress = trainer.progress
    return f"step {progress.step + 1} (epoch {progress.epoch + 1}, batch {progress.batch})"


def _is_full(trainer: Parts, device: torch.device) -> str:
    held = f"{peak_memory(device) / 2**30:.2f}"
    if device.type == "cuda":
        held += f" of {torch.cuda.get_device_properties(device).total_memory / 2**30:.2f}"
    return (
        f"is out of memory at {_place(trainer)}, with batches of {trainer.batch_size} samples; "
        f"at its peak the run held {held} GiB"
    )


def peak_memory(device: torch.device) -> int:
    """The most memory that was held so far, in bytes: on a GPU by its tensors, otherwise by the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # The system counts kilobytes; macOS counts bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
