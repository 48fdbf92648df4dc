"""The scalars of the training steps, read without making the GPU wait."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from audiozen_core.hooks.nonfinite import BatchLocation, NonFiniteError
from audiozen_core.hooks.progress import Progress
from audiozen_core.trainer.host_copy import HostCopy
from audiozen_core.trainer.nonfinite import MeasuredGradients, blame

# A loss is read this many steps late on a GPU: by then it has been computed and copied, and reading it does not wait.
GPU_LAG = 8


class _Norm:
    """The total norm of one network's gradients, and the batches that they come from."""

    def __init__(self, gradients: MeasuredGradients, location: BatchLocation) -> None:
        self.gradients = gradients
        self.location = location
        self._total = HostCopy({"total": gradients.total})

    def complaint(self) -> str | None:
        """Describes the first gradient that is not finite; None if all are finite."""
        return None if math.isfinite(self._total.read()["total"]) else self.gradients.complaint()


@dataclass(slots=True)
class _Batch:
    location: BatchLocation
    scalars: list[HostCopy]
    losses: frozenset[str]
    norms: list[_Norm] = field(default_factory=list)
    # None until the optimiser step that the batch belongs to.
    rates: Mapping[str, float | Tensor] | None = None


class StepScalars:
    """Collects the scalars of each training step of the current epoch, and checks whether they are finite.

    On a GPU a value is copied to the CPU at once and read `GPU_LAG` steps later, so that the CPU never waits for the
    GPU. `flush` reads the remaining values. Checkpoints hold the scalars of the current epoch.

    Args:
        progress: the progress of the run.
        device: where the steps are computed.
        modules: the networks and losses by section. A loss error says whether the weights were already not finite.
        judge: called with the error for a loss or gradient that is not finite; returns if the batch is to be skipped,
            and raises an error otherwise.
    """

    def __init__(
        self,
        progress: Progress,
        device: torch.device,
        modules: Mapping[str, torch.nn.Module],
        judge: Callable[[NonFiniteError], None],
    ) -> None:
        self.steps: list[dict[str, float]] = []
        # The learning rates of the last optimiser step. A scheduler may have changed them since.
        self.rates: Mapping[str, float | Tensor] = {}
        # Those of the optimiser step that the newest scalars belong to; None if it is still to come.
        self._last_rates: Mapping[str, float | Tensor] | None = {}
        self.read_at_once = False
        self._progress = progress
        self._device = device
        self._modules = modules
        self._judge = judge
        self._pending: deque[_Batch] = deque()
        self._window: list[BatchLocation] = []

    @property
    def lag(self) -> int:
        """How many steps late a value is read."""
        return GPU_LAG if self._device.type == "cuda" and not self.read_at_once else 0

    def begin(self) -> None:
        """Starts an epoch, or continues one that a checkpoint interrupted."""
        if self._progress.batch == 0:
            self.steps = []
        self._pending.clear()
        self._window.clear()

    def add(self, outputs: Mapping[str, Any], *, losses: Iterable[str], batch_idx: int, batch: Any) -> bool:
        """Adds the scalars among a step's outputs: numbers, and tensors of one element. Errors name the batch.

        `losses` are the names of those that are trained. Only these must be finite.

        Returns:
            Whether to learn from the batch; False if it is to be skipped.

        Raises:
            NonFiniteError: the loss of this batch, or of a batch up to `lag` steps ago, is NaN or infinite.
        """
        scalars = {name: value for name, value in outputs.items() if _is_scalar(value)}
        ids = batch.get("id") if isinstance(batch, Mapping) else None
        ids = tuple(map(str, ids)) if isinstance(ids, Sequence) and not isinstance(ids, str) else ()
        location = BatchLocation(self._progress.step + 1, self._progress.epoch + 1, (batch_idx,), ids)
        self._window.append(location)
        self._pending.append(_Batch(location, [HostCopy(scalars)], frozenset(losses)))
        good = True
        while len(self._pending) > self.lag:
            good = self._read()
        return good

    def add_gradients(self, measured: Mapping[str, MeasuredGradients]) -> bool:
        """Adds the norms of the gradients of an optimiser step, which come from all batches since the previous step.

        Returns:
            Whether to take the step; False if it is to be skipped.

        Raises:
            NonFiniteError: a gradient is NaN or infinite.
        """
        window, self._window = self._window, []
        if not window:
            return True
        batches = tuple(index for location in window for index in location.batches)
        ids = tuple(name for location in window for name in location.ids)
        location = BatchLocation(window[0].step, window[0].epoch, batches, ids)
        norms = [_Norm(gradients, location) for gradients in measured.values()]
        if self._pending:
            self._pending[-1].norms += norms
            return True
        return self._check(norms)

    def add_rates(self, rates: Mapping[str, float | Tensor]) -> None:
        """Adds the learning rates of an optimiser step, for all batches since the previous step."""
        self.rates = rates
        for batch in self._pending:
            if batch.rates is None:
                batch.rates = rates
        if self._last_rates is None:
            self._last_rates = rates

    def annotate(self, name: str, value: Any) -> None:
        """Adds one more scalar to the newest step."""
        if self._pending:
            self._pending[-1].scalars.append(HostCopy({name: value}))
        elif self.steps:
            self.steps[-1][name] = float(value)

    def flush(self) -> list[dict[str, float]]:
        """Reads the pending values, and returns the scalars of all steps."""
        while self._pending:
            self._read()
        return self.steps

    @property
    def last(self) -> Mapping[str, float]:
        """The newest scalars that have been read; empty before the first step."""
        return self.steps[-1] if self.steps else {}

    @property
    def last_rates(self) -> Mapping[str, float | Tensor]:
        """The learning rates of the optimiser step that `last` belongs to."""
        return self._last_rates or {}

    def state_dict(self) -> dict[str, Any]:
        """Returns the scalars of an epoch in progress, as one table; empty between epochs."""
        steps = self.flush() if self._progress.batch else []
        names = list(dict.fromkeys(name for step in steps for name in step))
        values = [[step.get(name, 0.0) for name in names] for step in steps]
        present = [[name in step for name in names] for step in steps]
        shape = (len(steps), len(names))
        return {
            "names": names,
            "values": torch.tensor(values, dtype=torch.float64).reshape(shape),
            "present": torch.tensor(present, dtype=torch.bool).reshape(shape),
            "rates": {name: float(rate) for name, rate in self.rates.items()} if self._progress.batch else {},
        }

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Restores what `state_dict` returned."""
        rows = zip(state_dict["values"].tolist(), state_dict["present"].tolist(), strict=True)
        self.steps = [
            {name: value for name, value, there in zip(state_dict["names"], values, present, strict=True) if there}
            for values, present in rows
        ]
        self.rates = self._last_rates = state_dict["rates"]
        self._pending.clear()
        self._window.clear()

    def _read(self) -> bool:
        batch = self._pending.popleft()
        values = {name: value for scalars in batch.scalars for name, value in scalars.read().items()}
        for name, value in values.items():
            if name in batch.losses and not math.isfinite(value):
                # If the loss was read late, it has already made the weights NaN, so they say nothing about the cause.
                notes = [] if self.lag else [blame(self._modules)]
                self._judge(NonFiniteError(f"`{name}` is {value}", batch.location, notes=notes))
                return False
        self.steps.append(values)
        self._last_rates = batch.rates
        return self._check(batch.norms)

    def _check(self, norms: list[_Norm]) -> bool:
        for norm in norms:
            if complaint := norm.complaint():
                self._judge(NonFiniteError(complaint, norm.location))
                return False
        return True


def mean_of(steps: list[dict[str, float]]) -> dict[str, float]:
    """Returns the mean of each scalar over the steps that have it.

    Example:
        >>> mean_of([{"loss": 1.0}, {"loss": 3.0, "snr": 5.0}])
        {'loss': 2.0, 'snr': 5.0}
    """
    names = dict.fromkeys(name for step in steps for name in step)
    values = {name: [step[name] for step in steps if name in step] for name in names}
    return {name: math.fsum(found) / len(found) for name, found in values.items()}


def _is_scalar(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex()
    return isinstance(value, int | float) and not isinstance(value, bool)
