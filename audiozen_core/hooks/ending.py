"""How a mode has ended, as hooks and the caller of a run are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from audiozen_core.errors import AudioZenError, Interrupted

EndingKind = Literal["finished", "stopped", "interrupted", "failed"]
"""How a mode has ended."""


@dataclass(frozen=True, slots=True)
class RunEnding:
    """How a mode has ended, and why.

    Attributes:
        kind: `finished` if all is done, `stopped` if a hook has stopped the training, `interrupted` by a signal such as
            Ctrl-C, or `failed` with an error.
        reason: why, in words, such as `max_epochs = 100 is reached`, or the message of the error; "" for an evaluation
            that is finished.
        error: the exception that has ended the mode, which only hooks are given; None if it is finished or stopped.
    """

    kind: EndingKind = "finished"
    reason: str = ""
    error: BaseException | None = None

    @classmethod
    def of_error(cls, error: BaseException) -> RunEnding:
        """Returns the ending for an exception."""
        interrupted = isinstance(error, Interrupted | KeyboardInterrupt)
        # The text of an AudioZenError also has its code, its notes and its remedy.
        text = error.message if isinstance(error, AudioZenError) else str(error)
        return cls("interrupted" if interrupted else "failed", f"{type(error).__name__}: {text}".rstrip(": "), error)
