"""Runs one batch for `audiozen check --build`, to measure the cost of an experiment before it runs for days.

No run starts, so the hook `on_run_start` is not called. During the forward and the backward pass, only the hook
`autocast` is called, because the precision of the forward pass affects the memory. Other hooks, such as hooks that
scale losses or step an optimiser, are not called, because they may need something that their plugin prepares in
`on_run_start`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from audiozen_core.data.loader import BatchLoader
from audiozen_core.diagnostics.clock import clock
from audiozen_core.experiment.auto_threads import ThreadChoice
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.experiment.fused_optimizers import fused_facts
from audiozen_core.experiment.lazy_modules import first_batch
from audiozen_core.experiment.owners import name_owners
from audiozen_core.experiment.parameter_groups import group_facts
from audiozen_core.experiment.part_parameters import count_trained
from audiozen_core.experiment.threads import WORTHWHILE, time_threads
from audiozen_core.experiment.timed_pass import run_pass, timed_pass, wait
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.memory import peak_memory


def dry_run(experiment: Experiment) -> dict[str, str]:
    """Builds the experiment, and runs one training batch forward and backward, in two rounds. Writes nothing.

    Between the two rounds, each optimiser takes a step with gradients of 0, so that the peak memory includes the state
    of the optimisers. Adam, for example, stores two values for each weight. If no mode trains, no batch is run.

    Returns:
        Facts as text, by name: the device, the number of trained weights of each section, and the groups of each
        optimiser. If a mode trains, the facts include the shapes in the batch, the losses, the peak memory, and the
        time of the second round. The first round is slower and not counted. On a CPU they also include the number of
        threads, the time of a round with one thread, and the optimisers that `fused = true` would make faster.

    Raises:
        AudioZenError: a component can't be built, or an optimiser can't step.
    """
    with experiment.scope, name_owners(experiment.checked):
        if experiment.trains:
            experiment.settle_threads()
        trainer, loaders = experiment.build()
        for loader in (loader for mode, group in loaders.items() if mode != "train" for loader in group):
            loader.epoch(0)  # does not make a batch, but warns if a sampler leaves items out
        weights = (f"{section} {count:,}" for section, count in count_trained(trainer.modules).items())
        facts = {"device": str(trainer.device), "weights": ", ".join(weights)}
        for loaded in experiment.initial_weights:
            facts[f"{loaded.section}.init"] = loaded.origin
            facts |= {f"  {name}": row for name, row in loaded.table().items()}
        for suffix, optimizer in trainer.optimizers.items():
            facts |= group_facts(experiment.config.components["optimizer"][suffix], optimizer)
        choice = experiment.thread_choice
        return facts | (_train_once(trainer, loaders["train"][0], choice) if experiment.trains else {})


def _train_once(trainer: BaseTrainer, loader: BatchLoader, choice: ThreadChoice | None) -> dict[str, str]:
    trainer.fit_schedulers(loader)
    batch, batch_idx = first_batch(trainer, loader)
    trainer.set_mode(training=True)
    losses = run_pass(trainer, batch, batch_idx)
    _make_optimizer_states(trainer)
    seconds = timed_pass(trainer, batch, batch_idx)
    memory = peak_memory(trainer.device)
    batches = loader.num_batches
    if trainer.steps_per_epoch is not None:
        batches = trainer.steps_per_epoch * trainer.gradient_accumulation_steps
    named = [(name, weight) for module in trainer.modules.values() for name, weight in module.named_parameters()]
    facts = {
        "batch": ", ".join(f"{name} {shape}" for name, shape in _shapes(batch, "batch")),
        "batches": "unknown" if batches is None else f"{batches} an epoch",
        "loss": ", ".join(f"{name} {float(value):.4g}" for name, value in losses.items()),
        "memory": f"{memory / 1e6:.0f} MB at the peak, "
        + ("including the optimiser's state" if trainer.device.type == "cuda" else "of the whole process"),
        "time": f"{seconds:.3f} s a batch, forward and backward"
        + (f", {clock(seconds * batches)} an epoch" if batches else ""),
    }
    if trainer.device.type == "cpu":
        facts["threads"] = (
            f"{choice.count}; {choice.reason}" if choice else _compare_threads(trainer, batch, batch_idx, seconds)
        )
    facts |= fused_facts(trainer.optimizers)
    if unused := [name for name, weight in named if weight.requires_grad and weight.grad is None]:
        facts["no gradient"] = ", ".join(unused)
    return facts


def _compare_threads(trainer: BaseTrainer, batch: Any, batch_idx: int, seconds: float) -> str:
    """Describes the number of threads. If torch uses several threads, times another round with one thread."""
    count = torch.get_num_threads()
    if count == 1:
        return "1"
    times = time_threads(partial(run_pass, trainer, batch, batch_idx), (1,), once=True)
    return thread_fact(count, seconds, times.best[1])


def thread_fact(count: int, seconds: float, seconds_of_one: float) -> str:
    """Describes how much faster a forward and backward pass is with `count` threads than with one thread.

    Threads wait for each other after each operation. If another program prevents one thread from running, all threads
    wait, and training can become many times slower. Several threads are therefore recommended only if they are much
    faster than one.

    Args:
        count: the number of threads.
        seconds: the time of a forward and backward pass with `count` threads.
        seconds_of_one: the same with one thread.

    Example:
        >>> thread_fact(4, 0.5, 1.4)
        '4; 2.8 times as fast as 1 (1.400 s a batch)'
        >>> thread_fact(2, 1.5, 1.2)
        '2; 0.8 times as fast as 1 (1.200 s a batch): set `num_threads = 1` in [meta]'
    """
    speed_up = seconds_of_one / seconds
    fact = f"{count}; {speed_up:.1f} times as fast as 1 ({seconds_of_one:.3f} s a batch)"
    return fact if speed_up >= WORTHWHILE else f"{fact}: set `num_threads = 1` in [meta]"


def _make_optimizer_states(trainer: BaseTrainer) -> None:
    weights = [weight for module in trainer.modules.values() for weight in module.parameters()]
    for weight in weights:
        if weight.grad is not None:
            # A step with the real gradients would change the weights that the second round uses.
            weight.grad.zero_()
    trainer.step_optimizers(ask_hooks=False)
    # With gradient accumulation, the gradients stay in memory while the next batch runs. Otherwise they are freed
    # first.
    if trainer.gradient_accumulation_steps == 1:
        for weight in weights:
            weight.grad = None
    wait(trainer.device)


def _shapes(value: Any, name: str) -> Iterator[tuple[str, list[int]]]:
    if isinstance(value, Tensor):
        yield name, list(value.shape)
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _shapes(entry, str(key))
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            yield from _shapes(entry, f"{name}[{index}]")
