"""The scalars of single batches and steps, as they are recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor


class ScalarRow(NamedTuple):
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
    """The scalars of one optimiser step: the scalars of its last batch, and the learning rates of the step.

    Attributes:
        step: the number of the step, from 1.
        epoch: the epoch of the step, from 1.
        scalars: the scalars that the training step returned for the last batch of the step.
        rates: the learning rates.
        samples: the number of samples that the scalars are the mean of; counted only with several ranks.
        batch_idx: the index of the last batch in the epoch.
        added: the scalars that hooks add; None if the step is not one of those that are recorded.
    """

    step: int
    epoch: int
    scalars: Mapping[str, float]
    rates: Mapping[str, float | Tensor]
    samples: int = 1
    batch_idx: int = 0
    added: Mapping[str, float] | None = None

    @property
    def metrics(self) -> dict[str, float | Tensor]:
        """The rates and all scalars. If a scalar of the step has the same name as another one, it is used."""
        return {**self.rates, **(self.added or {}), **self.scalars}
