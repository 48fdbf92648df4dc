"""Translates out-of-memory errors and errors of the data loader, so that messages say where and what to do.

Errors are recognised by their type and by the code that raised them, because their texts change with torch's version.
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
from audiozen_core.trainer.component_access import ComponentAccess

_SMALLER = (
    "set a smaller `batch_size` (`gradient_accumulation_steps` can make up for it) or shorter clips; "
    "the checkpoints are untouched"
)
_LOADER = (
    "a killed worker often means that memory ran out: set fewer `num_workers` or a smaller `prefetch_factor`; if a "
    "batch took too long, set a longer `timeout` (0 waits without limit); to see an error in the data set itself, set "
    "`num_workers = 0`; the checkpoints are untouched"
)

# The modules where torch raises errors about dead or slow workers. Errors of samples and batches come from elsewhere.
_LOADER_MODULES = ("torch.utils.data.dataloader", "torch.utils.data._utils.signal_handling")


@contextmanager
def translate_memory_errors(trainer: ComponentAccess) -> Iterator[None]:
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
            # The error's traceback refers to this frame. A reference back to the error would be a cycle that keeps
            # everything in the frames of the run in memory, such as the batch.
            del translated


def _translate(trainer: ComponentAccess, error: BaseException | None) -> RunError | None:
    """Returns the error to raise instead; None if the error is neither about memory nor from the data loader.

    The causes of an error are examined too, because torch can notice a dead worker at any time, even within a hook.
    """
    while error is not None:
        text = str(error)
        notes = (f"torch says: {text.splitlines()[0] if text else type(error).__name__}",)
        if isinstance(error, torch.OutOfMemoryError):
            return RunError(f"the GPU {_is_full(trainer, trainer.device)}", remedy=_SMALLER, notes=notes)
        if isinstance(error, MemoryError):
            return RunError(f"the machine {_is_full(trainer, torch.device('cpu'))}", remedy=_SMALLER, notes=notes)
        if _was_raised_by_loader(error):
            return RunError(f"the data loader failed near {_place(trainer)}", remedy=_LOADER, notes=notes)
        error = error.__cause__
    return None


def _was_raised_by_loader(error: BaseException) -> bool:
    """Returns whether torch's data loader itself raised the error, rather than a data set."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    if type(error) is RuntimeError:
        return bool(modules) and modules[-1] in _LOADER_MODULES
    # A worker sends a batch as a handle to shared memory, through a socket. If the worker has just died, this fails.
    return isinstance(error, OSError | EOFError) and "multiprocessing.resource_sharer" in modules


def _place(trainer: ComponentAccess) -> str:
    progress = trainer.progress
    return f"step {progress.step + 1} (epoch {progress.epoch + 1}, batch {progress.batch})"


def _is_full(trainer: ComponentAccess, device: torch.device) -> str:
    # With a `batch_sampler`, batches can differ in size, so the message does not contain a size.
    batch_size = f", with batches of {trainer.batch_size} samples" if trainer.batch_size else ""
    used = f"{peak_memory(device) / 2**30:.2f}"
    if device.type == "cuda":
        used += f" of {torch.cuda.get_device_properties(device).total_memory / 2**30:.2f}"
    return f"ran out of memory at {_place(trainer)}{batch_size}; the peak memory of the run was {used} GiB"


def peak_memory(device: torch.device) -> int:
    """Returns the peak memory so far, in bytes: of the tensors on a GPU, or of the whole process on a CPU.

    Args:
        device: the device. The memory of child processes, such as workers, is not included.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_process_memory()


def peak_process_memory() -> int:
    """Returns the peak memory of this process so far, in bytes, without its child processes."""
    with suppress(OSError, StopIteration, ValueError, IndexError):
        # Unlike this value, `ru_maxrss` includes the peak of the parent process.
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    # `ru_maxrss` is in kilobytes on Linux, and in bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
