"""The end of a training within an epoch."""

from __future__ import annotations


class StopRequest(Exception):  # noqa: N818
    """A hook has answered `stop_within_epoch_reason`; ends the epoch, and then the training."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
