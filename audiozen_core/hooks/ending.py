"""How a mode of a run ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from audiozen_core.errors import AudioZenError, Interrupted, exception_text

EndingKind = Literal["finished", "stopped", "interrupted", "failed"]
"""The ways in which a mode can end; see `RunEnding.kind`."""


@dataclass(frozen=True, slots=True)
class RunEnding:
    """How a mode ended, and why.

    Attributes:
        kind: `finished` if the mode completed, `stopped` if a hook stopped training, `interrupted` if a signal such as
            Ctrl-C ended the mode, or `failed` if an error ended the mode.
        reason: the reason as text, such as `max_epochs = 100 is reached`, or the message of the error; "" for a
            finished evaluation.
        error: the exception that ended the mode; None if the mode finished or was stopped. Only hooks get the
            exception.
    """

    kind: EndingKind = "finished"
    reason: str = ""
    error: BaseException | None = None

    @classmethod
    def of_error(cls, error: BaseException) -> RunEnding:
        """Returns the ending for an exception."""
        interrupted = isinstance(error, Interrupted | KeyboardInterrupt)
        # `str` of an `AudioZenError` includes the code, the notes and the remedy, so use only the message.
        text = f"{type(error).__name__}: {error.message}" if isinstance(error, AudioZenError) else exception_text(error)
        return cls("interrupted" if interrupted else "failed", text, error)
