"""A run that is ended by a signal, as it should be. Imports no torch."""

from __future__ import annotations

import signal


class Interrupted(BaseException):
    """The run stops because of a signal; what it had to save is saved.

    Args:
        number: the signal's number.
        note: what has been saved, in words.
    """

    def __init__(self, number: int, note: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}: {note}")
        self.number = number

    @property
    def exit_code(self) -> int:
        """What a shell tells of such an end: 128 plus the signal's number."""
        return 128 + self.number
