"""The scalars of the training steps, read without making the GPU wait."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from audiozen_core.hooks.nonfinite import BatchLocation, NonFiniteError
from audiozen_core.hooks.progress import Progress
from audiozen_core.hooks.scalars import as_scalar, form_of, is_truth_value
from audiozen_core.logging import get_logger
from audiozen_core.trainer.host_copy import HostCopy
from audiozen_core.trainer.nonfinite import MeasuredGradients, blame
from audiozen_core.trainer.step_records import Row, StepRecord

# A loss is read this many steps late on a GPU: by then it has been computed and copied, and reading it does not wait.
GPU_LAG = 8


class _Norm:
    """The total norm of one network's gradients, and the batches that they come from."""

    def __init__(self, gradients: MeasuredGradients, location: BatchLocation) -> None:
        self.gradients = gradients
        self.location = location
        self._total = HostCopy({"total": gradients.total}) if gradients.is_on_gpu else None

    def complaint(self) -> str | None:
        """Describes the first gradient that is not finite; None if all are finite."""
        if self._total is not None and math.isfinite(self._total.read()["total"]):
            return None
        return self.gradients.complaint()


class _GradNorm:
    """The norm of the gradients of an optimiser step. If they may overflow, it is recorded only if it is finite."""

    def __init__(self, norm: Tensor, *, may_overflow: bool) -> None:
        self._norm = HostCopy({"grad_norm": norm})
        self._may_overflow = may_overflow

    def read(self) -> dict[str, float]:
        scalars = self._norm.read()
        return {} if self._may_overflow and not math.isfinite(scalars["grad_norm"]) else scalars


@dataclass(slots=True)
class _Batch:
    location: BatchLocation
    scalars: HostCopy
    losses: frozenset[str]
    samples: int = 1
    norms: list[_Norm] = field(default_factory=list)
    grad_norm: _GradNorm | None = None


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
        # The scalars of each batch of the epoch that has been read.
        self.per_batch: list[dict[str, float]] = []
        # The index of each of these batches in the epoch, and its number of samples.
        self._origins: list[tuple[int, int]] = []
        # The first so many of them are already those of all ranks together.
        self._combined = 0
        self._combined_step = 0
        # The learning rates of the last optimiser step. A scheduler may have changed them since.
        self.rates: Mapping[str, float | Tensor] = {}
        # The record of the newest step whose batches have all been read.
        self.last_record: StepRecord | None = None
        self.read_at_once = False
        # The batches of the newest optimiser step of this run.
        self.last_step: BatchLocation | None = None
        self._progress = progress
        self._device = device
        self._modules = modules
        self._judge = judge
        self._pending: deque[_Batch] = deque()
        self._window: list[BatchLocation] = []
        # The steps that have been taken, with their rates, as long as some of their batches have not been read.
        self._taken: deque[tuple[int, Mapping[str, float | Tensor]]] = deque()
        self._read_of_step: tuple[BatchLocation, dict[str, float], int] | None = None
        self._records: list[StepRecord] = []
        # The names of outputs that are not scalars. Each is reported once.
        self._left_out: set[str] = set()

    @property
    def lag(self) -> int:
        """How many steps late a value is read."""
        return GPU_LAG if self._device.type == "cuda" and not self.read_at_once else 0

    def begin(self) -> None:
        """Starts an epoch, or continues one that a checkpoint interrupted."""
        if self._progress.batch == 0:
            self.per_batch, self._origins, self._combined = [], [], 0
        self._forget_unread()

    def add(
        self, outputs: Mapping[str, Any], *, losses: Collection[str], batch_idx: int, batch: Any, samples: int = 1
    ) -> bool:
        """Adds the scalars among a step's outputs: numbers, tensors and arrays of one element. Errors name the batch.

        None and booleans are left out. Any other value that is not a scalar is left out with a warning, once a name.

        `losses` are the names of those that are trained. Only these must be finite.

        Returns:
            Whether to learn from the batch; False if it is to be skipped.

        Raises:
            NonFiniteError: the loss of this batch, or of a batch up to `lag` steps ago, is NaN or infinite.
        """
        location = BatchLocation(self._progress.step + 1, self._progress.epoch + 1, (batch_idx,), _ids_of(batch))
        self._window.append(location)
        scalars, lag, good = self._recordable(outputs), self.lag, True
        if not lag and not self._pending:
            values = {name: float(value) for name, value in scalars.items()}
            return self._take(location, values, losses, samples)
        self._pending.append(_Batch(location, HostCopy(scalars), frozenset(losses), samples))
        while len(self._pending) > lag:
            good = self._read()
        return good

    def _recordable(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        scalars = {}
        for name, value in outputs.items():
            if type(value) is Tensor and value.numel() == 1 and value.is_floating_point():  # as in most steps
                scalars[name] = value
                continue
            if value is None or is_truth_value(value):
                continue
            scalar = as_scalar(value)
            if scalar is not None:
                scalars[name] = scalar
            elif name not in self._left_out:
                self._left_out.add(name)
                get_logger().warning(
                    f"the training step returns `{name}`, {form_of(value)}, which is not recorded",
                    remedy="to record it, return a number or a tensor of one element; hooks get it in any case",
                )
        return scalars

    def add_gradients(self, measured: Mapping[str, MeasuredGradients]) -> bool:
        """Adds the norms of the gradients of an optimiser step, which come from all batches since the previous step.

        Returns:
            Whether to take the step; False if it is to be skipped.

        Raises:
            NonFiniteError: a gradient is NaN or infinite.
        """
        window, self._window = self._window, []
        if not window:  # with several ranks, the gradients come from the batches of others
            here = BatchLocation(self._progress.step + 1, self._progress.epoch + 1, (self._progress.batch,))
            return bool(self.lag) or self._check([_Norm(gradients, here) for gradients in measured.values()])
        location = window[0]
        if len(window) > 1:
            batches = tuple(index for one in window for index in one.batches)
            location = location._replace(batches=batches, ids=tuple(name for one in window for name in one.ids))
        self.last_step = location
        norms = [_Norm(gradients, location) for gradients in measured.values()]
        if self._pending:
            self._pending[-1].norms += norms
            return True
        return self._check(norms)

    def close_step(self, step: int, rates: Mapping[str, float | Tensor]) -> None:
        """Closes an optimiser step, which all batches since the previous step belong to.

        Args:
            step: the number of the step, from 1.
            rates: the learning rates that it was taken with.
        """
        self.rates = rates
        self._taken.append((step, rates))
        self._complete_records()

    def take_records(self) -> list[StepRecord]:
        """Returns the records that have been completed since the last call, oldest first.

        On a GPU they come later than their steps. A step whose batches were all left out has none.
        """
        records, self._records = self._records, []
        return records

    def add_grad_norm(self, norm: Tensor, *, may_overflow: bool) -> None:
        """Adds the scalar `grad_norm` to the newest step, unless the step has returned one of this name.

        Args:
            norm: the norm of all gradients of the step, a scalar.
            may_overflow: whether an overflow of scaled gradients is normal. The optimiser then leaves the step out, so
                a norm that is not finite is not recorded: it would make the mean of the whole epoch infinite.
        """
        grad_norm = _GradNorm(norm, may_overflow=may_overflow)
        if self._pending:
            self._pending[-1].grad_norm = grad_norm
        elif self.per_batch:
            # In place, because the record of the step has the same dict.
            for name, value in grad_norm.read().items():
                self.per_batch[-1].setdefault(name, value)

    def leave_out(self, batch_idx: int) -> None:
        """Removes the scalars of the newest batch if they have been read, because all ranks leave its turn out."""
        if self._origins and self._origins[-1][0] == batch_idx:
            del self._origins[-1], self.per_batch[-1]
            self._read_of_step = None

    def combine(self, combine: Callable[[Sequence[Row]], Sequence[Row]]) -> None:
        """Replaces the scalars of each new batch, and of the newest step, by those of all ranks together.

        All values must have been read.

        Args:
            combine: combines rows with those of the other ranks.
        """
        new = zip(self._origins[self._combined :], self.per_batch[self._combined :], strict=True)
        rows = combine([Row(*origin, values) for origin, values in new])
        self.per_batch[self._combined :] = [dict(row.scalars) for row in rows]
        self._origins[self._combined :] = [(row.number, row.samples) for row in rows]
        self._combined = len(self.per_batch)
        own, step = self.last_record, self._progress.step
        newest = combine([Row(own.batch_idx, own.samples, own.scalars)] if own and own.step == step else [])
        self._records = []
        # Some ranks may have had no batch in the last turn of the step. Their records are those of an earlier turn.
        for row in newest[-1:]:
            is_new = step > self._combined_step
            self.last_record = StepRecord(
                step, self._progress.epoch + 1, row.scalars, self.rates, row.samples, row.number
            )
            self._records = [self.last_record] * is_new
            self._combined_step = step

    def flush(self) -> list[dict[str, float]]:
        """Reads the pending values, and returns the scalars of all batches."""
        while self._pending:
            self._read()
        return self.per_batch

    @property
    def last(self) -> Mapping[str, float]:
        """The newest scalars that have been read; empty before the first step."""
        return self.per_batch[-1] if self.per_batch else {}

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
            "origins": torch.tensor(self._origins if steps else [], dtype=torch.int64).reshape(len(steps), 2),
            "rates": {name: float(rate) for name, rate in self.rates.items()} if self._progress.batch else {},
        }

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Restores what `state_dict` returned."""
        rows = zip(state_dict["values"].tolist(), state_dict["present"].tolist(), strict=True)
        self.per_batch = [
            {name: value for name, value, there in zip(state_dict["names"], values, present, strict=True) if there}
            for values, present in rows
        ]
        self._origins = [(index, samples) for index, samples in state_dict["origins"].tolist()]
        self._combined = len(self.per_batch)
        self.rates = state_dict["rates"]
        self._combined_step = self._progress.step  # its record has been made
        if self.per_batch:
            self.last_record = StepRecord(self._progress.step, self._progress.epoch + 1, self.per_batch[-1], self.rates)
        self._forget_unread()

    def _read(self) -> bool:
        batch = self._pending.popleft()
        values = batch.scalars.read()
        values = batch.grad_norm.read() | values if batch.grad_norm else values
        return self._take(batch.location, values, batch.losses, batch.samples, batch.norms)

    def _take(
        self,
        location: BatchLocation,
        values: dict[str, float],
        losses: Collection[str],
        samples: int,
        norms: Sequence[_Norm] = (),
    ) -> bool:
        """Checks what has been read, and keeps it. Returns whether to learn from the batch."""
        for name, value in values.items():
            if not math.isfinite(value) and name in losses:
                # If the loss was read late, it has already made the weights NaN, so they say nothing about the cause.
                notes = [] if self.lag else [blame(self._modules)]
                self._judge(NonFiniteError(f"`{name}` is {value}", location, notes=notes))
                return False
        self.per_batch.append(values)
        self._origins.append((location.batches[0], samples))
        self._read_of_step = location, values, samples
        good = self._check(norms)
        if self._taken:
            self._complete_records()
        return good

    def _complete_records(self) -> None:
        """Makes the records of the steps whose batches have all been read."""
        while self._taken and not (self._pending and self._pending[0].location.step <= self._taken[0][0]):
            step, rates = self._taken.popleft()
            if self._read_of_step and self._read_of_step[0].step == step:
                location, values, samples = self._read_of_step
                self.last_record = StepRecord(step, location.epoch, values, rates, samples, location.batches[0])
                self._records.append(self.last_record)

    def _forget_unread(self) -> None:
        self._pending.clear()
        self._window.clear()
        self._taken.clear()
        self._records.clear()
        self._read_of_step = None

    def _check(self, norms: Sequence[_Norm]) -> bool:
        for norm in norms:
            if complaint := norm.complaint():
                self._judge(NonFiniteError(complaint, norm.location))
                return False
        return True


def _ids_of(batch: Any) -> tuple[str, ...]:
    """Returns the IDs of the samples of a batch; none if it has none."""
    ids = batch.get("id") if type(batch) is dict or isinstance(batch, Mapping) else None
    if ids is None:
        return ()
    return tuple(map(str, ids)) if isinstance(ids, Sequence) and not isinstance(ids, str) else ()


def mean_of(steps: list[dict[str, float]]) -> dict[str, float]:
    """Returns the mean of each scalar over the steps that have it; NaN if it has no mean, as for inf and -inf.

    Example:
        >>> mean_of([{"loss": 1.0}, {"loss": 3.0, "snr": 5.0}])
        {'loss': 2.0, 'snr': 5.0}
        >>> mean_of([{"snr": math.inf}, {"snr": -math.inf}])
        {'snr': nan}
    """
    names = dict.fromkeys(name for step in steps for name in step)
    values = {name: [step[name] for step in steps if name in step] for name in names}
    return {name: _mean(found) for name, found in values.items()}


def _mean(values: Sequence[float]) -> float:
    try:
        return math.fsum(values) / len(values)
    except (ValueError, OverflowError):  # inf together with -inf, or a sum that is too large
        return math.nan
