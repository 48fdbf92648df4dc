"""The exception that ends a training run within an epoch."""

from __future__ import annotations


class StopRequest(Exception):  # noqa: N818
    """Raised when a hook returns a reason to stop. It ends the epoch and then the training."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
