"""A short run that shows whether an experiment works."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Trial:
    """A run in its own folder that uses only the first batches of each data set, and the same batches in every epoch.

    Attributes:
        batches: the number of batches; None for all batches.
        folder: the folder of the run; None for `<id>_overfit`, next to the run folder of the experiment.
    """

    batches: int | None
    folder: Path | None = None
