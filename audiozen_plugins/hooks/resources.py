"""Records how long a training step takes, where its time goes, and how much memory the run needs."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from audiozen_core.hooks.marker import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.trainer.memory import peak_memory

_GIB = 2**30


class Resources:
    """Adds the time of a step and the peak memory to the records.

    The record of an epoch has two times of an optimiser step: `train/seconds_data` is the time that the step waits for
    its batches, and `train/seconds_compute` is the rest of the step. Both are means over the steps of the epoch,
    without validations. With several processes, both times come from the process that waited longest, because all other
    processes wait for it. The CPU queues work for a GPU without waiting for it, so the time of a single step means
    little. The mean is correct, because an epoch ends only when the GPU is done. Every `log_interval` steps, the record
    of the step has the means since the last such record, as `step/seconds_data` and `step/seconds_compute`. With
    several processes, these means come from the main process.

    On the CPU, `seconds_compute` is also split into `seconds_transfer`, `seconds_forward`, `seconds_backward`,
    `seconds_optimizer` and `seconds_rest` (hooks, checks and records). On a GPU, one in every 16 steps is measured on
    the GPU itself: `train/gpu_seconds_forward` is the time of the forward pass, and so on. `train/gpu_seconds_data` is
    the time that the GPU waits for a batch.

    `train/memory_gib` is the peak memory of the process, without the workers of the data loader. On a GPU,
    `train/gpu_gib` is the peak memory of the tensors, and `train/gpu_reserved_gib` is the peak memory of the whole
    allocator. Each value is the peak since the start of the program, in GiB. With several processes, the largest value
    is recorded.

    After a resume within an epoch, the means are over the steps since the resume. The hook is on by default. It never
    makes the CPU wait for the GPU.
    """

    default = True
    affects_training = False
    stays_in_folder = True

    def __init__(self) -> None:
        self._epoch: _Span | None = None
        self._interval: _Span | None = None

    @hookimpl.on_epoch_start
    def on_epoch_start(self, trainer: Trainer) -> None:
        """Starts the clocks."""
        self._epoch, self._interval = _Span(trainer), _Span(trainer)

    @hookimpl.step_scalars
    def step_scalars(self, trainer: Trainer) -> Mapping[str, float] | None:
        """Adds the times of the steps since the last record of a step."""
        span, self._interval = self._interval, _Span(trainer)
        return span.per_step(trainer) if span else None

    @hookimpl.epoch_scalars
    def epoch_scalars(self, trainer: Trainer) -> Mapping[str, float]:
        """Adds the times and the memory."""
        own = {"memory_gib": peak_memory(torch.device("cpu")) / _GIB}
        if trainer.device.type == "cuda":
            own["gpu_gib"] = torch.cuda.max_memory_allocated(trainer.device) / _GIB
            own["gpu_reserved_gib"] = torch.cuda.max_memory_reserved(trainer.device) / _GIB
        times = self._epoch.per_step(trainer) if self._epoch and self._epoch.has_steps(trainer) else None
        every = trainer.ranks.gather((own, times))
        scalars = {name: max(memory[name] for memory, _ in every if name in memory) for name in own}
        if measured := [times for _, times in every if times]:
            scalars |= max(measured, key=lambda times: times["seconds_data"])
        return scalars


class _Span:
    """Measures the mean times of the steps since this object was made."""

    def __init__(self, trainer: Trainer) -> None:
        self._before = trainer.part_seconds
        self._gpu_before, self._measured = trainer.gpu_part_seconds
        self._step = trainer.progress.step

    def has_steps(self, trainer: Trainer) -> bool:
        return trainer.progress.step > self._step

    def per_step(self, trainer: Trainer) -> dict[str, float]:
        """Returns the mean times of a step in seconds, by the names of the scalars."""
        steps, now = trainer.progress.step - self._step, trainer.part_seconds
        parts = {name: (now[name] - self._before[name]) / steps for name in now if name != "outside"}
        data = parts.pop("data")
        scalars = {"seconds_data": data, "seconds_compute": sum(parts.values())}
        if trainer.device.type == "cpu":
            scalars |= {f"seconds_{name}": seconds for name, seconds in parts.items()}
        of_gpu, measured = trainer.gpu_part_seconds
        if count := measured - self._measured:
            gpu = {name: (of_gpu[name] - self._gpu_before.get(name, 0.0)) / count for name in of_gpu}
            scalars |= {f"gpu_seconds_{name}": seconds for name, seconds in gpu.items() if name != "outside"}
        return scalars
