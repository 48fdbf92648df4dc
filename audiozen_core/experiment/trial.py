"""A short run that shows whether an experiment works."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Trial:
    """A run in its own folder that uses only the first batches of each data set, the same ones in every epoch.

    Attributes:
        batches: the number of batches; None for all of them.
        folder: the folder of the run; None for `<id>_overfit`, beside the experiment's folder.
    """

    batches: int | None
    folder: Path | None = None
