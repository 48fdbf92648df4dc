"""Gives lazy modules, such as `nn.LazyLinear`, their shapes before anything else uses their weights."""

from __future__ import annotations

from itertools import chain
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy

from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import BuildError
from audiozen_core.trainer.base_trainer import BaseTrainer


def initialise_lazy_modules(trainer: BaseTrainer, loader: BatchLoader) -> None:
    """Runs the forward pass of one training batch if a network or a loss has weights without a shape.

    The pass runs in evaluation mode, so that running means do not change. It may run after the optimiser was built,
    because torch initialises the weights in place.

    Raises:
        BuildError: a weight still has no shape after the pass.
    """
    if not _lazy_weights(trainer):
        return
    batch, batch_idx = first_batch(trainer, loader)
    trainer.set_mode(training=False)
    trainer.forward_batch(batch, batch_idx)
    if names := _lazy_weights(trainer):
        raise BuildError(
            f"{', '.join(names)} still have no shape after one training batch",
            remedy="use them in every `training_step`, or build these modules with explicit sizes instead of lazily",
        )


def first_batch(trainer: BaseTrainer, loader: BatchLoader) -> tuple[Any, int]:
    """Returns the first training batch that can be read, as a training step would get it, and the index of the batch.

    Raises:
        DataError: a sample can't be read and the trainer does not skip it, or the loader makes no batch.
    """
    batches = enumerate(loader.epoch(1, unreadable=trainer.unreadable))
    batch_idx, item = next((batch_idx, item) for batch_idx, item in batches if item is not None)
    return trainer.load_batch(item, "train", batch_idx), batch_idx


def _lazy_weights(trainer: BaseTrainer) -> list[str]:
    """Returns the weights and buffers of networks and losses that have no shape yet, each with its section."""
    return [
        f"`{name}` of [{section}]"
        for section, module in trainer.modules.items()
        for name, tensor in chain(module.named_parameters(), module.named_buffers())
        if is_lazy(tensor)
    ]


def complete_norms(model: nn.Module) -> None:
    """Sets `num_features` of lazy normalisation layers whose weights come from a checkpoint.

    Torch sets `num_features` only when it infers the shapes from a batch. While `num_features` is 0, an instance norm
    rejects every input.
    """
    for part in model.modules():
        if isinstance(part, _NormBase) and part.num_features == 0:
            features = part.weight if part.weight is not None else part.running_mean
            if features is not None and not is_lazy(features):
                part.num_features = len(features)
