"""Translates out-of-memory errors and errors of the data loader, so that they say where and what to do.

Errors are recognised by their type and by the code that raised them. Their texts differ between versions of torch.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
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

# In these modules torch notices that a worker has died or is late. Errors of samples and batches come from others.
_LOADER_MODULES = ("torch.utils.data.dataloader", "torch.utils.data._utils.signal_handling")


@contextmanager
def translate_memory_errors(trainer: Parts) -> Iterator[None]:
    """Translates an out-of-memory error or an error of the data loader that is raised in the block.

    Raises:
        RunError: the GPU or the computer ran out of memory; the data loader failed, because a worker died or a batch
            took longer than `timeout`.
    """
    try:
        yield
    except Exception as error:
        translated = _translate(trainer, error)
        if translated is None:
            raise
        try:
            raise translated from error
        finally:
            # This frame is in the error's traceback. If it referred to the error, both would stay in memory, with the
            # batch and everything else that the frames of the run refer to.
            del translated


def _translate(trainer: Parts, error: BaseException | None) -> RunError | None:
    """Returns the error to raise instead, or None.

    The causes of an error are examined too, because torch may notice a dead worker at any time, even within a hook.
    """
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
    """Checks whether torch's data loader itself raised the error. A data set's errors only pass through the loader."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    if type(error) is RuntimeError:
        return bool(modules) and modules[-1] in _LOADER_MODULES
    # A worker sends a batch as a handle to its memory, through a socket. If the worker has just ended, reading fails.
    return isinstance(error, OSError | EOFError) and "multiprocessing.resource_sharer" in modules


def _place(trainer: Parts) -> str:
    progress = trainer.progress
    return f"step {progress.step + 1} (epoch {progress.epoch + 1}, batch {progress.batch})"


def _is_full(trainer: Parts, device: torch.device) -> str:
    # With a `batch_sampler`, batches may differ in size, so the message gives none.
    of_size = f", with batches of {trainer.batch_size} samples" if trainer.batch_size else ""
    held = f"{peak_memory(device) / 2**30:.2f}"
    if device.type == "cuda":
        held += f" of {torch.cuda.get_device_properties(device).total_memory / 2**30:.2f}"
    return f"is out of memory at {_place(trainer)}{of_size}; at its peak the run held {held} GiB"


def peak_memory(device: torch.device) -> int:
    """Returns the peak memory so far, in bytes: of the tensors on a GPU, otherwise of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_process_memory()


def peak_process_memory() -> int:
    """Returns the most memory that this process has had in use so far, in bytes, without its child processes."""
    with suppress(OSError, StopIteration, ValueError, IndexError):
        # `ru_maxrss` of a process also has the peak of the process that has started it.
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    # Linux counts kilobytes, and macOS counts bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
