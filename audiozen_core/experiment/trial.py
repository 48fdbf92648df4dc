"""A short run that shows whether an experiment works."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Trial:
    """A run in a folder of its own that sees only the first batches of each data set, in every epoch the same.

    Attributes:
        batches: the number of batches; None for all of them.
        folder: the folder of the run; None for one beside that of the experiment, `<id>_overfit`.
    """

    batches: int | None
    folder: Path | None = None
