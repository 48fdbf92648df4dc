"""What a hook can raise to change the course of a training."""

from __future__ import annotations

from audiozen_core.errors import AudioZenError


class RollbackRequest(AudioZenError):  # noqa: N818 (a request, which may be granted)
    """Raised during a training epoch: restore the last checkpoint, and continue from there.

    The trainer calls the hook `rollback`. If no hook can restore a checkpoint, the run ends with `reason`.

    Args:
        reason: the error that makes it necessary.

    Example:
        >>> raise RollbackRequest(RunError("the loss has doubled"))  # doctest: +SKIP
    """

    def __init__(self, reason: AudioZenError) -> None:
        super().__init__(reason.message, remedy=reason.remedy, notes=reason.notes)
        self.reason = reason
