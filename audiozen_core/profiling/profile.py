"""Profiles the training of an experiment: measures where the time of a step goes, and records a trace."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from audiozen_core.data.loader import BatchLoader
from audiozen_core.distributed.cpus import usable_cpus
from audiozen_core.errors import RunError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.experiment.lazy_modules import first_batch
from audiozen_core.experiment.threads import busy_reason, disturbed_reason, thread_counts, time_threads
from audiozen_core.experiment.timed_pass import run_pass
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.profiling.amounts import Amounts
from audiozen_core.profiling.timeline import HOOK, Timeline
from audiozen_core.profiling.trace import ProfilerTrace
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.tuning.short_training import MEASURE, check_single_process, short_training, takes_part

_TRACED_STEPS = 3
_LONG_STEP = 2.0  # seconds; if steps take longer on average, only one step is traced
_LONGEST_WARM_UP = 20.0  # seconds; after this time the measurement starts even if the warm-up is not complete
_FEWEST_STEPS = 3
_WARM_UP = 3
_PREFETCHED = 2  # the default of `prefetch_factor`: batches that torch's loader prepares ahead per worker


@dataclass(frozen=True, slots=True)
class StepProfile:
    """Where the time of an optimiser step goes. All times are seconds.

    Attributes:
        device: the device of the networks.
        steps: the number of measured steps.
        seconds: the mean time of a step.
        fastest: the time of the fastest step.
        slowest: the time of the slowest step.
        parts: the mean time of each part of a step. The parts have the names in `StepPart`. Each hook is a part of its
            own, such as `hook clip_grad_norm`.
        samples_per_second: the number of training samples processed per second.
        real_time_factor: the seconds of training audio processed per second; None if the batches have no audio.
        num_workers: the number of processes that load items.
        cores: the number of processors that this process can use.
        threads: the number of CPU threads that torch uses.
        thread_seconds: the time of a forward and a backward pass, by the number of threads; empty if different numbers
            of threads were not compared.
        busy: why the machine is too busy to compare numbers of threads; "" if it is idle enough.
        left_out: the names of the experiment's hooks that were not measured.
    """

    device: str
    steps: int
    seconds: float
    fastest: float
    slowest: float
    parts: Mapping[str, float]
    samples_per_second: float
    real_time_factor: float | None
    num_workers: int
    cores: int
    threads: int
    thread_seconds: Mapping[int, float] = field(default_factory=dict)
    busy: str = ""
    left_out: Sequence[str] = ()

    def share(self, part: str) -> float:
        """Returns the share of a step that a part takes, from 0 to 1."""
        return self.parts.get(part, 0.0) / self.seconds


def profile_training(
    experiment: Experiment,
    *,
    steps: int = 20,
    num_workers: int | None = None,
    compare_threads: bool = True,
    trace_folder: Path | None = None,
    most_seconds: float = 60.0,
    on_step: Callable[[], object] | None = None,
) -> tuple[StepProfile, Path | None]:
    """Trains an experiment for a few steps and measures where the time of a step goes. Saves nothing except the trace.

    The first steps are not measured, because memory is allocated in them and because they use batches that the workers
    prepared before training started.

    Args:
        experiment: the experiment. Its run folder is not used.
        steps: the number of optimiser steps to measure.
        num_workers: the number of processes that load items; None for the experiment's own number.
        compare_threads: whether to compare the speed of different numbers of threads. Has no effect on a GPU.
        trace_folder: the folder to write a trace to, which covers up to three further steps; None for no trace.
        most_seconds: the time in seconds after which no further step is measured. The limit applies only after three
            steps.
        on_step: called after each step.

    Returns:
        The profile, and the path of the trace, which is None if no trace is written.

    Raises:
        RunError: this process is one of several processes of a run, or training ended too early for a measurement.
        AudioZenError: the experiment can't be built or trained.
        OSError: the trace can't be written.
    """
    check_single_process("profile")
    table = experiment.config.datasets["train"][0].dataloader
    workers = table.num_workers if num_workers is None else num_workers
    ahead = workers * (table.prefetch_factor or _PREFETCHED) + 1 if workers else 0
    busy = busy_reason()  # checked first, because training itself makes the machine busy
    timeline, measuring = Timeline(), _Measuring(steps, max(ahead, _WARM_UP), most_seconds, on_step)
    with short_training(experiment, measuring, num_workers=num_workers, watch=timeline) as (trainer, loader):
        trainer.clock, timeline.device = timeline, trainer.device
        measuring.attach(trainer, loader, timeline, traces=trace_folder is not None)
        trainer.train(loader)
        profile = measuring.profile(workers)
        if compare_threads and trainer.device.type == "cpu" and usable_cpus() > 1:
            profile = _with_threads(profile, trainer, loader, busy)
        kept = {plugin.name for plugin in trainer.hooks.plugins}
        trace = measuring.trace.write(trace_folder) if measuring.trace and trace_folder else None
    with experiment.scope:
        left_out = [plugin.name for plugin in experiment.lifecycle().plugins if not takes_part(plugin)]
    return dataclasses.replace(profile, left_out=tuple(name for name in left_out if name not in kept)), trace


def _with_threads(profile: StepProfile, trainer: BaseTrainer, loader: BatchLoader, busy: str) -> StepProfile:
    """Adds the times with different numbers of threads; on a busy machine, only with the current number and with 1."""
    counts = sorted({1, profile.threads} if busy else {*thread_counts(usable_cpus()), profile.threads})
    if len(counts) == 1:
        return dataclasses.replace(profile, busy=busy)
    batch, batch_idx = first_batch(trainer, loader)
    times = time_threads(partial(run_pass, trainer, batch, batch_idx), counts, seconds=10.0)
    return dataclasses.replace(profile, thread_seconds=times.best, busy=busy or disturbed_reason(times))


class _Measuring:
    """A hook plugin that decides which steps are measured and traced, and counts their samples and audio."""

    phase = "persist"

    def __init__(self, steps: int, warm_up: int, most_seconds: float, on_step: Callable[[], object] | None) -> None:
        self.trace: ProfilerTrace | None = None
        self._steps, self._warm_up, self._most_seconds, self._on_step = steps, warm_up, most_seconds, on_step
        self._ends_at: int | None = None
        self._began: float | None = None
        self._first: int | None = None
        self._newest = -1

    def attach(self, trainer: BaseTrainer, loader: BatchLoader, timeline: Timeline, *, traces: bool) -> None:
        """Sets the objects of the training to measure. Must be called before the first step."""
        loader.count_samples()
        timeline.before_batch, timeline.hidden = self._before_batch, MEASURE
        self._trainer, self._loader, self._timeline = trainer, loader, timeline
        self._amounts = Amounts(trainer.sr)
        if traces:
            self.trace = ProfilerTrace(trainer.device)

    def _before_batch(self) -> None:
        step, now = self._trainer.progress.step, perf_counter()
        # At the end of an epoch, the trainer requests one more batch than the loader has, so this method may be called
        # twice for a step.
        if not self._trainer.between_steps or step == self._newest:
            return
        self._newest = step
        self._began = now if self._began is None else self._began
        # With data loader workers, the warm-up lasts until all batches that the workers prepared in advance are used.
        is_warm = step and self._warm_up == _WARM_UP and now - self._began > _LONGEST_WARM_UP
        if self._first is None and (step >= self._warm_up or is_warm):
            self._first, self._began = step, now
            self._timeline.start()
        if self._first is None or self._ends_at is not None:
            return
        measured, seconds = step - self._first, now - self._began
        if measured < self._steps and (measured < _FEWEST_STEPS or seconds < self._most_seconds):
            self._timeline.begin_step()
            return
        self._timeline.stop()
        self._ends_at = step + (_TRACED_STEPS if self.trace and seconds < measured * _LONG_STEP else 1)
        if self.trace:
            self.trace.start()
            self._timeline.traces = True

    @hookimpl.on_training_step_start
    def on_training_step_start(self, batch: Any) -> None:
        """Counts the samples and the audio of the batch."""
        if self._first is not None and self._ends_at is None:
            self._amounts.add(batch, self._loader.samples)

    @hookimpl.on_optimizer_step_end
    def on_optimizer_step_end(self) -> None:
        """Calls the function `on_step` of `profile_training`."""
        if self._on_step:
            self._on_step()

    @hookimpl.stop_within_epoch_reason
    def stop_within_epoch_reason(self, trainer: Trainer) -> str | None:
        """Stops training after the last measured or traced step."""
        if self._ends_at is None or trainer.progress.step < self._ends_at:
            return None
        if self.trace:
            self._timeline.end_trace()
            self.trace.stop()
        return "the steps are measured"

    def profile(self, num_workers: int) -> StepProfile:
        """Returns the profile of the measured steps.

        Raises:
            RunError: training ended before all steps were measured, or no step was trained on a sample.
        """
        if self._ends_at is None or self._trainer.progress.step < self._ends_at:
            raise RunError(
                f"the training ended after {self._trainer.progress.step} steps, before all steps were measured: "
                f"{self._trainer.ending.reason}",
                remedy="disable the hook that stops the training, or measure fewer steps with --steps",
            )
        measured = self._timeline.measured()
        count = len(measured.steps)
        # A normal step does not include the time of this hook.
        parts = {name: total / count for name, total in measured.parts.items() if name != HOOK + MEASURE}
        seconds = sum(parts.values())
        if not self._amounts.samples or not seconds:
            raise RunError(
                "every batch was skipped, so nothing was measured",
                remedy="check the hooks that implement `skip_batch`",
            )
        audio = self._amounts.audio_seconds
        return StepProfile(
            device=str(self._trainer.device),
            steps=count,
            seconds=seconds,
            fastest=min(measured.steps),
            slowest=max(measured.steps),
            parts=parts,
            samples_per_second=self._amounts.samples / count / seconds,
            real_time_factor=None if audio is None else audio / count / seconds,
            num_workers=num_workers,
            cores=usable_cpus(),
            threads=torch.get_num_threads(),
        )
