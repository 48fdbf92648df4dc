"""A hook that freezes layers for the first epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from audiozen import hookimpl

if TYPE_CHECKING:
    from audiozen.hooks import Trainer


class Thaw:
    """Freezes parts of the network for the first epochs, as is common in finetuning.

    Args:
        parts: the first parts of parameter names, such as `mask` or `gru.weight`.
        epochs: the number of epochs for which they stay frozen.
    """

    affects_outputs = False
    phase = "step"

    def __init__(self, parts: Sequence[str], epochs: int = 1) -> None:
        self.parts = tuple(parts)
        self.epochs = epochs

    @hookimpl.on_epoch_start
    def on_epoch_start(self, trainer: Trainer, epoch: int) -> None:
        """Freezes or thaws the parts. The epoch alone decides, so a resumed run needs no saved state."""
        named = [(name, weight) for name, weight in trainer.model.named_parameters() if name.startswith(self.parts)]
        frozen = epoch <= self.epochs
        for _, weight in named:
            weight.requires_grad_(not frozen)
        trainer.log.info("frozen" if frozen else "thawed", weights=len(named), epoch=epoch)
