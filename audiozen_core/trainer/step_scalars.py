"""The scalars of an epoch's steps, read without making the GPU wait."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from audiozen_core.hooks.progress import Progress
from audiozen_core.trainer.nonfinite import MeasuredGradients, NonFiniteGuard, Place, blame

# A GPU may be so many steps behind before a loss is read: by then it is computed, and reading it waits for nothing.
GPU_LAG = 8


@dataclass(slots=True)
class _Batch:
    place: Place
    scalars: dict[str, Any]
    gradients: list[tuple[MeasuredGradients, Place]] = field(default_factory=list)


class StepScalars:
    """Collects the scalars of each training step of the epoch under way, and sees whether they are finite.

    On a GPU a value is read a few steps after it was queued, so that reading does not stall the queue; `flush` reads
    the rest. Only where batches are to be skipped it is read at once. Those of an epoch that is half done are kept in
    the checkpoints.

    Args:
        progress: how far the training is.
        device: where the steps are computed.
        guard: what becomes of a loss or gradient that is not finite.
        models: suffix to network, to see who is to blame for it.
    """

    def __init__(
        self,
        progress: Progress,
        device: torch.device,
        guard: NonFiniteGuard | None = None,
        models: Mapping[str, torch.nn.Module] | None = None,
    ) -> None:
        self.steps: list[dict[str, float]] = []
        self._progress = progress
        self._guard = guard or NonFiniteGuard()
        self._models = models or {}
        self._lag = GPU_LAG if device.type == "cuda" and self._guard.policy != "skip" else 0
        self._pending: deque[_Batch] = deque()
        self._window: list[Place] = []

    def begin(self) -> None:
        """A new epoch begins, or one goes on in its midst."""
        if self._progress.batch == 0:
            self.steps = []
        self._pending.clear()
        self._window.clear()

    def add(self, outputs: Mapping[str, Any], *, batch_idx: int, batch: Any) -> bool:
        """Takes the scalars among a step's outputs.

        Args:
            outputs: what the step returned; numbers and tensors of one element are kept, detached.
            batch_idx: the place of the batch in the epoch, for messages.
            batch: the batch; its `id`, if it has one, is for messages.

        Returns:
            Whether to learn from the batch.

        Raises:
            NonFiniteError: a loss is NaN or infinite, this one or one of the last few.
        """
        scalars = {name: value for name, value in outputs.items() if _is_scalar(value)}
        ids = batch.get("id") if isinstance(batch, Mapping) else None
        ids = tuple(map(str, ids)) if isinstance(ids, Sequence) and not isinstance(ids, str) else ()
        place = Place(self._progress.step + 1, self._progress.epoch + 1, (batch_idx,), ids)
        self._window.append(place)
        self._pending.append(_Batch(place, scalars))
        good = True
        while len(self._pending) > self._lag:
            good = self._read()
        return good

    def add_gradients(self, measured: Mapping[str, MeasuredGradients]) -> bool:
        """Takes the norms of the gradients of an optimiser step, made of the batches since the step before.

        Returns:
            Whether to take the step.

        Raises:
            NonFiniteError: a gradient is NaN or infinite.
        """
        window, self._window = self._window, []
        if not window:
            return True
        batches = tuple(index for place in window for index in place.batches)
        ids = tuple(name for place in window for name in place.ids)
        place = Place(window[0].step, window[0].epoch, batches, ids)
        checks = [(gradients, place) for gradients in measured.values()]
        if self._pending:
            self._pending[-1].gradients += checks
            return True
        return self._check(checks)

    def annotate(self, name: str, value: Any) -> None:
        """Adds one more scalar to the newest step."""
        if self._pending:
            self._pending[-1].scalars[name] = value
        elif self.steps:
            self.steps[-1][name] = float(value)

    def flush(self) -> list[dict[str, float]]:
        """Reads what is still pending and gives the scalars of all steps."""
        while self._pending:
            self._read()
        return self.steps

    @property
    def last(self) -> Mapping[str, float]:
        """The newest scalars that are known, empty at first."""
        return self.steps[-1] if self.steps else {}

    def state_dict(self) -> dict[str, Any]:
        """The scalars of an epoch that is half done, as one table; nothing between epochs."""
        steps = self.flush() if self._progress.batch else []
        names = list(dict.fromkeys(name for step in steps for name in step))
        values = [[step.get(name, 0.0) for name in names] for step in steps]
        present = [[name in step for name in names] for step in steps]
        shape = (len(steps), len(names))
        return {
            "names": names,
            "values": torch.tensor(values, dtype=torch.float64).reshape(shape),
            "present": torch.tensor(present, dtype=torch.bool).reshape(shape),
        }

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Takes back what `state_dict` gave."""
        names, rows = (
            state_dict["names"],
            zip(state_dict["values"].tolist(), state_dict["present"].tolist(), strict=True),
        )
        self.steps = [
            {name: value for name, value, there in zip(names, values, present, strict=True) if there}
            for values, present in rows
        ]
        self._pending.clear()
        self._window.clear()

    def _read(self) -> bool:
        batch = self._pending.popleft()
        values = {name: float(value) for name, value in batch.scalars.items()}
        for name, value in values.items():
            if name.startswith("loss") and not math.isfinite(value):
                self._guard.meet(f"`{name}` is {value}", batch.place, [blame(self._models)] if self._models else [])
                return False
        self.steps.append(values)
        return self._check(batch.gradients)

    def _check(self, checks: list[tuple[MeasuredGradients, Place]]) -> bool:
        for gradients, place in checks:
            if complaint := gradients.complaint():
                self._guard.meet(complaint, place)
                return False
        return True


def mean_of(steps: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each scalar over the steps that have it.

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
