"""Memory that has run out, on the GPU, in the computer or in a worker, told with what a person needs to mend it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from audiozen_core.errors import RunError

if TYPE_CHECKING:
    from audiozen_core.trainer.base_trainer import BaseTrainer

_SMALLER = (
    "set a smaller `batch_size` (`gradient_accumulation_steps` makes up for it) or shorter clips; "
    "the checkpoints are untouched"
)
_WORKER = re.compile(r"DataLoader worker \(pid\(?s?\)? .*?\) (?:is killed by signal: (?P<signal>[^.]*)|exited)")


@contextmanager
def out_of_memory_told(trainer: BaseTrainer) -> Iterator[None]:
    """Turns the error of a machine whose memory has run out into one with the batch size and the peak.

    Raises:
        RunError: the GPU or the computer was out of memory in the block, or a process that makes batches has died.
    """
    try:
        yield
    except Exception as error:
        told = _told(trainer, error)
        if told is None:
            raise
        raise told from error


def _told(trainer: BaseTrainer, error: BaseException | None) -> RunError | None:
    """What to tell of the error or of what has caused it: torch learns of a dead worker while a hook runs, too."""
    while error is not None:
        text = str(error)
        said = f"torch says: {text.splitlines()[0] if text else type(error).__name__}"
        if isinstance(error, torch.OutOfMemoryError):
            return RunError(f"the GPU is {_place(trainer)}{_gpu_peak(trainer)}", remedy=_SMALLER, notes=(said,))
        if isinstance(error, MemoryError) or "DefaultCPUAllocator" in text:
            return RunError(f"the computer is {_place(trainer)}{_peak()}", remedy=_SMALLER, notes=(said,))
        if match := _WORKER.search(text):
            how = f"killed by the signal {match['signal']}" if match["signal"] else "ended"
            return RunError(
                f"a process that makes batches was {how} near {_where(trainer)}",
                remedy="the system does so when memory runs out: set fewer `num_workers` or a smaller "
                "`prefetch_factor`; with `num_workers = 0` an error in the data set itself shows; "
                "the checkpoints are untouched",
                notes=(said,),
            )
        error = error.__cause__
    return None


def _place(trainer: BaseTrainer) -> str:
    return f"out of memory at {_where(trainer)}, with batches of {trainer.batch_size} samples"


def _where(trainer: BaseTrainer) -> str:
    progress = trainer.progress
    return f"step {progress.step + 1} (epoch {progress.epoch + 1}, batch {progress.batch})"


def _gpu_peak(trainer: BaseTrainer) -> str:
    if trainer.device.type != "cuda":
        return ""
    reached = torch.cuda.max_memory_allocated(trainer.device) / 2**30
    total = torch.cuda.get_device_properties(trainer.device).total_memory / 2**30
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
