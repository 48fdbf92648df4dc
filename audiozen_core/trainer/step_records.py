"""The scalars of single batches and steps, as they are recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor


class Row(NamedTuple):
    """The scalars of a batch or a step.

    Attributes:
        number: the index of the batch in its epoch, or the number of the step.
        samples: the number of samples that the scalars are the mean of.
        scalars: the scalars by name.
    """

    number: int
    samples: int
    scalars: Mapping[str, float]


class StepRecord(NamedTuple):
    """The scalars of one optimiser step: those of its last batch, and the learning rates that the step was taken with.

    Attributes:
        step: the number of the step, from 1.
        epoch: the epoch of the step, from 1.
        scalars: what the training step returned for the last batch of the step.
        rates: the learning rates.
        samples: the number of samples that the scalars are the mean of; counted with several ranks only.
        batch_idx: the index in the epoch of the batch that they come from.
    """

    step: int
    epoch: int
    scalars: Mapping[str, float]
    rates: Mapping[str, float | Tensor]
    samples: int = 1
    batch_idx: int = 0

    @property
    def metrics(self) -> dict[str, float | Tensor]:
        """The rates and the scalars. A scalar of the step that has the name of a rate replaces it."""
        return {**self.rates, **self.scalars}
