"""Collects the scalars of the training steps without waiting for the GPU."""

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
from audiozen_core.trainer.step_records import ScalarRow, StepRecord

# On a GPU, a loss is read this many steps late. By then it is computed and copied, so reading it does not wait.
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
    """The norm of the gradients of an optimiser step. With `may_overflow`, only a finite norm is recorded."""

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

    On a GPU, the copy of a value to the CPU is queued immediately and read `GPU_LAG` steps later, so that the CPU never
    waits for the GPU. `flush` reads the remaining values. Checkpoints contain the scalars of the current epoch.

    Args:
        progress: the progress of the run.
        device: the device of the training.
        modules: the networks and losses by section. If a loss is not finite, the error says whether
            their weights are finite.
        judge: called with the error if a loss or gradient is not finite. It returns if the batch is to be skipped, and
            raises an error otherwise.
    """

    def __init__(
        self,
        progress: Progress,
        device: torch.device,
        modules: Mapping[str, torch.nn.Module],
        judge: Callable[[NonFiniteError], None],
    ) -> None:
        # The scalars of each batch of the current epoch, as far as they were read.
        self.per_batch: list[dict[str, float]] = []
        # The index of each of these batches in the epoch, and its number of samples.
        self._origins: list[tuple[int, int]] = []
        # The number of these batches whose scalars are already combined over all ranks, and the last step of them.
        self._combined = 0
        self._combined_step = 0
        # The learning rates of the last optimiser step. The schedulers may have changed the rates since.
        self.rates: Mapping[str, float | Tensor] = {}
        # The record of the latest step whose batches were all read.
        self.last_record: StepRecord | None = None
        self.read_at_once = False
        # The batches of the latest optimiser step of this run.
        self.last_step: BatchLocation | None = None
        self._progress = progress
        self._device = device
        self._modules = modules
        self._judge = judge
        self._pending: deque[_Batch] = deque()
        self._window: list[BatchLocation] = []
        # The completed steps with unread batches, their learning rates, and the scalars that hooks add.
        self._taken: deque[tuple[int, Mapping[str, float | Tensor], Mapping[str, float] | None]] = deque()
        self._read_of_step: tuple[BatchLocation, dict[str, float], int] | None = None
        # The latest closed step, and the scalars that hooks add to it. This rank may have no batch in this step.
        self._added: tuple[int, Mapping[str, float] | None] = (0, None)
        self._records: list[StepRecord] = []
        # The names of outputs that are not scalars. Each is reported once.
        self._left_out: set[str] = set()

    @property
    def lag(self) -> int:
        """The number of steps after which a value is read."""
        return GPU_LAG if self._device.type == "cuda" and not self.read_at_once else 0

    def begin(self) -> None:
        """Starts an epoch, or continues the epoch within which the loaded checkpoint was saved."""
        if self._progress.batch == 0:
            self.per_batch, self._origins, self._combined = [], [], 0
        self._forget_unread()

    def add(
        self, outputs: Mapping[str, Any], *, losses: Collection[str], batch_idx: int, batch: Any, samples: int = 1
    ) -> bool:
        """Adds the scalars among the outputs of a step: numbers, and tensors and arrays of one element.

        None and booleans are left out. Any other value that is not a scalar causes a warning, once for each name.
        `losses` are the names of the losses that are trained. Only these must be finite.

        Returns:
            Whether to train on the batch; False if it is to be skipped.

        Raises:
            NonFiniteError: the loss of this batch, or of a batch up to `lag` steps ago, is NaN or infinite.
        """
        progress = self._progress
        location = BatchLocation(progress.step + 1, progress.epoch + 1, (batch_idx,), _ids_of(batch))
        self._window.append(location)
        scalars, lag, good = self._recordable(outputs), self.lag, True
        if not lag and not self._pending and self._device.type != "cuda":
            for name, value in scalars.items():
                scalars[name] = float(value.item() if isinstance(value, Tensor) else value)
            return self._take(location, scalars, losses, samples)
        self._pending.append(_Batch(location, HostCopy(scalars), frozenset(losses), samples))
        while len(self._pending) > lag:
            good = self._read()
        return good

    def _recordable(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        scalars = {}
        for name, value in outputs.items():
            if type(value) is Tensor and value.numel() == 1 and value.is_floating_point():  # a fast path for most steps
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
                    remedy="to record it, return a number or a tensor of one element; hooks get the value either way",
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
        if not window:  # with several ranks, the gradients can come from batches of other ranks only
            here = BatchLocation(self._progress.step + 1, self._progress.epoch + 1, (self._progress.batch,))
            return bool(self.lag) or self._check([_Norm(gradients, here) for gradients in measured.values()])
        location = window[0]
        if len(window) > 1:
            batches = tuple(index for one in window for index in one.batches)
            location = location._replace(batches=batches, ids=tuple(name for one in window for name in one.ids))
        self.last_step = location
        if not measured:
            return True
        norms = [_Norm(gradients, location) for gradients in measured.values()]
        if self._pending:
            self._pending[-1].norms += norms
            return True
        return self._check(norms)

    def close_step(
        self, step: int, rates: Mapping[str, float | Tensor], added: Mapping[str, float] | None = None
    ) -> None:
        """Closes an optimiser step. All batches since the previous step belong to it.

        Args:
            step: the number of the step, from 1.
            rates: the learning rates of the step.
            added: the scalars that hooks add to the record of this step. If it is None, `take_records` does not return
                the record.
        """
        self.rates, self._added = rates, (step, added)
        if self._pending:
            self._taken.append((step, rates, added))
            self._complete_records()
        else:
            self._note_record(step, rates, added)

    @property
    def has_records(self) -> bool:
        """Whether `take_records` would return a record."""
        return bool(self._records)

    def take_records(self) -> list[StepRecord]:
        """Returns the records that are due and were completed since the last call, oldest first.

        On a GPU, a record is completed later than its step. A step whose batches were all skipped has no record.
        """
        records, self._records = self._records, []
        return records

    def add_grad_norm(self, norm: Tensor, *, may_overflow: bool) -> None:
        """Adds the scalar `grad_norm` to the latest step, unless the step returned a scalar of this name.

        Args:
            norm: the norm of all gradients of the step, a scalar.
            may_overflow: whether an overflow of scaled gradients is normal. The optimiser skips such a step. A
                norm that is not finite is then not recorded, because it would make the mean of the epoch infinite.
        """
        grad_norm = _GradNorm(norm, may_overflow=may_overflow)
        if self._pending:
            self._pending[-1].grad_norm = grad_norm
        elif self.per_batch:
            # The dict is changed in place, because the record of the step refers to the same dict.
            for name, value in grad_norm.read().items():
                self.per_batch[-1].setdefault(name, value)

    def leave_out(self, batch_idx: int) -> None:
        """Removes the scalars of the latest batch if they were read, because all ranks skip the turn of this batch."""
        if self._origins and self._origins[-1][0] == batch_idx:
            del self._origins[-1], self.per_batch[-1]
            self._read_of_step = None

    def combine(self, combine: Callable[[Sequence[ScalarRow]], Sequence[ScalarRow]]) -> None:
        """Replaces the scalars of each new batch and of the latest step by the means over all ranks.

        All values must have been read before.

        Args:
            combine: combines the rows of this rank with the rows of the other ranks.
        """
        new = zip(self._origins[self._combined :], self.per_batch[self._combined :], strict=True)
        rows = combine([ScalarRow(*origin, values) for origin, values in new])
        self.per_batch[self._combined :] = [dict(row.scalars) for row in rows]
        self._origins[self._combined :] = [(row.number, row.samples) for row in rows]
        self._combined = len(self.per_batch)
        last, step = self.last_record, self._progress.step
        newest = combine([ScalarRow(last.batch_idx, last.samples, last.scalars)] if last and last.step == step else [])
        self._records = []
        # The record gets the row of the last turn. A rank without a batch in that turn has a row of an earlier turn.
        for row in newest[-1:]:
            is_new = step > self._combined_step
            added = self._added[1] if self._added[0] == step else None
            self.last_record = StepRecord(
                step, self._progress.epoch + 1, row.scalars, self.rates, row.samples, row.number, added
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
        """The latest scalars that were read; empty before the first step."""
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
        """Restores the state from `state_dict`."""
        rows = zip(state_dict["values"].tolist(), state_dict["present"].tolist(), strict=True)
        self.per_batch = [
            {name: value for name, value, exists in zip(state_dict["names"], values, present, strict=True) if exists}
            for values, present in rows
        ]
        self._origins = [(index, samples) for index, samples in state_dict["origins"].tolist()]
        self._combined = len(self.per_batch)
        self.rates = state_dict["rates"]
        self._combined_step = self._progress.step  # this step already has a record
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
                # If the loss was read late, it has already made the weights NaN, so a check would blame the weights.
                notes = [] if self.lag else [blame(self._modules)]
                self._judge(NonFiniteError(f"`{name}` is {value}", location, notes=notes))
                return False
        self.per_batch.append(values)
        self._origins.append((location.batches[0], samples))
        self._read_of_step = location, values, samples
        good = not norms or self._check(norms)
        if self._taken:
            self._complete_records()
        return good

    def _complete_records(self) -> None:
        """Creates the records of the steps whose batches were all read."""
        while self._taken and not (self._pending and self._pending[0].location.step <= self._taken[0][0]):
            self._note_record(*self._taken.popleft())

    def _note_record(self, step: int, rates: Mapping[str, float | Tensor], added: Mapping[str, float] | None) -> None:
        """Creates the record of a step, unless all its batches were skipped."""
        if self._read_of_step and self._read_of_step[0].step == step:
            location, values, samples = self._read_of_step
            self.last_record = StepRecord(step, location.epoch, values, rates, samples, location.batches[0], added)
            if added is not None:
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
    """Returns the IDs of the samples in a batch; an empty tuple if the batch has no IDs."""
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
    return {name: _mean(numbers) for name, numbers in values.items()}


def _mean(values: Sequence[float]) -> float:
    try:
        return math.fsum(values) / len(values)
    except (ValueError, OverflowError):  # inf together with -inf, or a sum that is too large
        return math.nan
