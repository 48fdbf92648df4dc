"""Layers that learn later than the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from audiozen import hookimpl

if TYPE_CHECKING:
    from audiozen.trainer.base_trainer import BaseTrainer


class Thaw:
    """Keeps parts of the network as they are for the first epochs, as one does when finetuning.

    Args:
        parts: prefixes of the names of weights, such as `mask` or `gru.weight`.
        epochs: for so many epochs.
    """

    phase = "step"

    def __init__(self, parts: Sequence[str], epochs: int = 1) -> None:
        self.parts = tuple(parts)
        self.epochs = epochs

    @hookimpl
    def on_epoch_start(self, trainer: BaseTrainer, epoch: int) -> None:
        """Freezes or thaws the parts, by the number of the epoch; so a resumed run needs no state."""
        named = [(name, weight) for name, weight in trainer.model.named_parameters() if name.startswith(self.parts)]
        frozen = epoch <= self.epochs
        for _, weight in named:
            weight.requires_grad_(not frozen)
        trainer.log.info("frozen" if frozen else "thawed", weights=len(named), epoch=epoch)
