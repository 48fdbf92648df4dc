"""Trains a few steps with one batch size, and measures speed and memory.

`child` runs this module as a program, which reads a request from its standard input and writes the result to a file. A
separate process is needed for each batch size: it starts with empty GPU memory, its peak memory can be measured, and it
can be killed when it uses too much memory.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import AudioZenError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.storage.atomic import write_whole
from audiozen_core.trainer.memory import peak_memory
from audiozen_core.tuning.batch_sizes import BatchSizeResult
from audiozen_core.tuning.short_training import short_training

# When memory runs out, torch and CUDA sometimes raise only a RuntimeError. Its message then contains one of these
# texts.
_FULL = ("out of memory", "not enough memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


def measure_size(experiment: Experiment, batch_size: int, *, steps: int = 5, seconds: float = 20.0) -> BatchSizeResult:
    """Measures the speed and the memory of training with one batch size.

    The first step is not timed, because the optimiser creates its state during that step.

    Args:
        experiment: the experiment. Its run folder is not used.
        batch_size: the number of samples in a batch.
        steps: the number of optimiser steps to time, after the first step.
        seconds: the time in seconds after which no further step starts. At least one step is timed.

    Raises:
        AudioZenError: the experiment can't be built or trained for a reason other than memory.
    """
    clock = _Clock(steps, seconds)
    try:
        with short_training(experiment, clock, batch_size=batch_size) as (trainer, loader):
            clock.observe(loader)
            trainer.train(loader)
            ended = loader.size is None and clock.largest < batch_size
            return BatchSizeResult(
                batch_size,
                fits=True,
                samples_per_second=clock.samples_per_second,
                peak_memory=peak_memory(trainer.device),
                device=trainer.device.type,
                data_size=clock.largest if ended else loader.size,
            )
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return BatchSizeResult(batch_size, fits=False, reason="out of memory")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Returns whether an error, or one of its causes, means that the GPU or the machine ran out of memory."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            return True
        if isinstance(error, RuntimeError) and any(text in str(error) for text in _FULL):
            return True
        error = error.__cause__
    return False


class _Clock:
    """A hook plugin that measures the time of all steps except the first.

    Attributes:
        largest: the number of samples in the largest batch.
    """

    def __init__(self, steps: int, seconds: float) -> None:
        self.largest = 0
        self._loader: BatchLoader | None = None
        self._steps = steps
        self._seconds = seconds
        self._samples = 0
        # The number of samples so far and the time, at the end of each step.
        self._ends: list[tuple[int, float]] = []

    def observe(self, loader: BatchLoader) -> None:
        """Sets the loader of the training data. Must be called before training starts."""
        loader.count_samples()
        self._loader = loader

    @property
    def samples_per_second(self) -> float:
        """The number of training samples processed per second."""
        (before, began), (after, ended) = self._ends[0], self._ends[-1]
        return (after - before) / (ended - began)

    @hookimpl.on_training_step_start
    def on_training_step_start(self) -> None:
        """Counts the samples of the batch, because the last batch of a pass can be smaller."""
        assert self._loader is not None
        self._samples += self._loader.samples
        self.largest = max(self.largest, self._loader.samples)

    @hookimpl.on_optimizer_step_end
    def on_optimizer_step_end(self, trainer: Trainer) -> None:
        """Stores the time at which the step ended. On a GPU, first waits until the GPU has finished the step."""
        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)
        self._ends.append((self._samples, time.perf_counter()))

    @hookimpl.stop_within_epoch_reason
    def stop_within_epoch_reason(self) -> str | None:
        """Stops training after the last step, or when the time is up."""
        timed, passed = len(self._ends) - 1, self._ends[-1][1] - self._ends[0][1]
        return "the batch size is measured" if timed >= self._steps or (timed and passed > self._seconds) else None


def main(arguments: Sequence[str]) -> None:
    """Reads a request from the first line of standard input, and writes the result to the file `arguments[0]`."""
    request: dict[str, Any] = json.loads(sys.stdin.readline())
    # The pipe closes when the parent process ends, even if it is killed. This process then ends too.
    threading.Thread(target=_end_with_input, daemon=True).start()
    answer: dict[str, Any]
    try:
        experiment = Experiment.load(request["file"], overrides=request["overrides"])
        answer = dataclasses.asdict(measure_size(experiment, request["batch_size"], steps=request["steps"]))
    except AudioZenError as error:
        answer = {"error": {"message": error.message, "remedy": error.remedy, "notes": error.notes}}
    write_whole(Path(arguments[0]), json.dumps(answer))


def _end_with_input() -> None:
    while sys.stdin.read(1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
