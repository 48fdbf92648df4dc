"""The errors and answers that a trainer and its hooks exchange if a loss or gradient is NaN or infinite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from audiozen_core.errors import AudioZenError, RunError

NonFinitePolicy = Literal["stop", "skip", "rollback"]
NonFiniteAnswer = Literal["skip", "rollback"]
"""The answers to the hook `on_nonfinite`: how a run continues after a NaN."""

_REMEDY = (
    "lower the learning rate, clip the gradients (`clip_grad_norm_value`), or inspect these samples; "
    '`on_nonfinite = "skip"` continues without the batch; the checkpoints are not affected'
)
_MAX_SAMPLES = 8


class BatchLocation(NamedTuple):
    """The batches that caused an error.

    Attributes:
        step: the optimiser step that the batches belong to, from 1.
        epoch: the epoch, from 1.
        batches: the indices of the batches in the epoch, from 0; several if gradients are accumulated.
        ids: the IDs of the samples in the batches, if the samples have IDs.
        rank: the rank that has the batches.
    """

    step: int
    epoch: int
    batches: tuple[int, ...]
    ids: tuple[str, ...] = ()
    rank: int = 0

    def __str__(self) -> str:
        first, last = self.batches[0], self.batches[-1]
        batches = f"batch {first}" if first == last else f"batches {first} to {last}"
        more = f" and {len(self.ids) - _MAX_SAMPLES} more" if len(self.ids) > _MAX_SAMPLES else ""
        samples = f"; samples: {', '.join(self.ids[:_MAX_SAMPLES])}{more}" if self.ids else ""
        return f"step {self.step} (epoch {self.epoch}, {batches}{samples})"


class NonFiniteError(RunError):
    """A loss, a gradient or a weight is NaN or infinite.

    Args:
        problem: what is wrong, such as "`loss` is nan".
        location: the batches that the loss or gradient comes from. For a weight, the batches of the last step.
        remedy: what the user can do.
        notes: additional lines, each in the form "kind: text".
    """

    def __init__(
        self, problem: str, location: BatchLocation, *, remedy: str = _REMEDY, notes: Sequence[str] = ()
    ) -> None:
        super().__init__(f"{problem} at {location}", remedy=remedy, notes=notes)
        self.problem = problem
        self.location = location


class RollbackRequest(AudioZenError):  # noqa: N818 (a request, which may be granted)
    """Requests that the run restore the last checkpoint and continue from it. Raise it during a training epoch.

    The trainer calls the hook `rollback`. If no hook can restore a checkpoint, the run ends with `reason`.

    Args:
        reason: the error that makes the rollback necessary.

    Example:
        >>> raise RollbackRequest(RunError("the loss has doubled"))  # doctest: +SKIP
    """

    def __init__(self, reason: AudioZenError) -> None:
        super().__init__(reason.message, remedy=reason.remedy, notes=reason.notes)
        self.reason = reason
