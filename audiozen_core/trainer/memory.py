"""A GPU that is out of memory, told with what a person needs to mend it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from audiozen_core.errors import RunError

if TYPE_CHECKING:
    from audiozen_core.trainer.base_trainer import BaseTrainer


@contextmanager
def out_of_memory_told(trainer: BaseTrainer) -> Iterator[None]:
    """Turns the GPU's error into one with the batch size and the peak memory.

    Raises:
        RunError: the GPU was out of memory in the block.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        progress = trainer.progress
        where = f"step {progress.step + 1} (epoch {progress.epoch + 1}, batch {progress.batch})"
        peak = ""
        if trainer.device.type == "cuda":
            reached = torch.cuda.max_memory_allocated(trainer.device) / 2**30
            total = torch.cuda.get_device_properties(trainer.device).total_memory / 2**30
            peak = f"; at its peak the run held {reached:.2f} of {total:.2f} GiB"
        raise RunError(
            f"the GPU is out of memory at {where}, with batches of {trainer.batch_size} samples{peak}",
            remedy="set a smaller `batch_size` (`gradient_accumulation_steps` makes up for it), shorter clips, or "
            "`use_amp = true`; the checkpoints are untouched",
            notes=(f"torch says: {str(error).splitlines()[0]}",),
        ) from error
