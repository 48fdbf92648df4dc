"""`audiozen check --build`: one batch through the experiment, to see its cost before it runs for days."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from audiozen_core.data.loader import BatchLoader, to_device
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.trainer.base_trainer import BaseTrainer


@dataclass(frozen=True, slots=True)
class DryRun:
    """What one batch has shown.

    Attributes:
        device: the device.
        parameters: suffix of the net to its number of trainable weights.
        batch: name of each tensor in the batch to its shape.
        batches: the number of batches in an epoch, None if it is unknown.
        loss: each loss by name.
        without_gradient: the weights that get no gradient from any loss.
        memory_mb: the peak memory in megabytes, of the GPU if there is one, else of the process.
        seconds: the time of the second step, forward and backward; the first one is slower.
    """

    device: str
    parameters: Mapping[str, int]
    batch: Mapping[str, tuple[int, ...]]
    batches: int | None
    loss: Mapping[str, float]
    without_gradient: tuple[str, ...]
    memory_mb: float
    seconds: float

    def __str__(self) -> str:
        names = {suffix: f"model_{suffix}" if suffix else "model" for suffix in self.parameters}
        epoch = f", {_span(self.seconds * self.batches)} an epoch" if self.batches else ""
        facts = {
            "device": self.device,
            "weights": ", ".join(f"{names[suffix]} {size:,}" for suffix, size in self.parameters.items()),
            "batch": ", ".join(f"{name} {list(shape)}" for name, shape in self.batch.items()),
            "batches": f"{self.batches} an epoch" if self.batches else "unknown",
            "loss": ", ".join(f"{name} {value:.4g}" for name, value in self.loss.items()),
            "memory": f"{self.memory_mb:.0f} MB at the peak",
            "time": f"{self.seconds:.3f} s a step{epoch}",
        }
        if self.without_gradient:
            facts["no gradient"] = ", ".join(self.without_gradient)
        return "\n".join(f"{name:<12} {fact}" for name, fact in facts.items())


def dry_run(experiment: Experiment) -> DryRun:
    """Builds the experiment, and runs one training batch forward and backward, twice; writes nothing.

    Raises:
        AudioZenError: a component can't be built.
    """
    with experiment.scope:
        trainer, loaders = experiment.build()
        loader = loaders["train"][0]
        batch = to_device(next(iter(loader.epoch(1))), trainer.device)
        for model in trainer.models.values():
            model.train()
        _step(trainer, batch)
        started = time.perf_counter()
        losses = _step(trainer, batch)
        seconds = time.perf_counter() - started
    named = [(name, weight) for model in trainer.models.values() for name, weight in model.named_parameters()]
    return DryRun(
        device=str(trainer.device),
        parameters={suffix: _size(model) for suffix, model in trainer.models.items()},
        batch=dict(_shapes(batch, "batch")),
        batches=_length(loader),
        loss={name: float(value) for name, value in losses.items()},
        without_gradient=tuple(name for name, weight in named if weight.requires_grad and weight.grad is None),
        memory_mb=_peak_memory(trainer.device) / 1e6,
        seconds=seconds,
    )


def _step(trainer: BaseTrainer, batch: Any) -> dict[str, Tensor]:
    losses, _ = trainer._forward(batch, 0)
    trainer._backward(losses, 0)
    if trainer.device.type == "cuda":
        torch.cuda.synchronize(trainer.device)
    return {name: loss.detach() for name, loss in losses.items()}


def _size(model: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def _shapes(value: Any, name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    if isinstance(value, Tensor):
        yield name, tuple(value.shape)
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _shapes(entry, str(key))
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            yield from _shapes(entry, f"{name}[{index}]")


def _peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    # Kilobytes, but on macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def _length(loader: BatchLoader) -> int | None:
    try:
        return len(loader)
    except TypeError:
        return None


def _span(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
