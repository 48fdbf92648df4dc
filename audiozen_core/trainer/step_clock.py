"""Where the time of a training goes: to the data, the forward pass, the optimiser, …"""

from __future__ import annotations

from time import perf_counter
from typing import Literal, get_args

Part = Literal["data", "transfer", "forward", "backward", "optimizer", "rest", "outside"]
"""A part of a training.

`data` is waiting for a batch. `transfer` moves it to the device, and is `prepare_batch` of the trainer. `forward` and
`backward` are the passes, `optimizer` the step of the optimisers. `rest` is all else in an epoch: hooks, the checks of
losses and gradients, records. `outside` is what belongs to no step: validations, and the time between two epochs.
"""

PARTS: tuple[Part, ...] = get_args(Part)
"""All parts, in the order of a step."""


class StepClock:
    """Adds up the time of each part. A part lasts until the next one begins, so no time is lost or counted twice.

    It reads the clock of the processor. A GPU works behind the program, so for it these times are only those of the
    program, apart from `data`: while the program waits for data, it gives the GPU nothing to do.

    Example:
        >>> clock = StepClock()
        >>> clock.begin("data")
        >>> clock.begin("rest")
        >>> clock.seconds()["data"] >= 0, clock.seconds()["forward"]
        (True, 0.0)
    """

    def __init__(self) -> None:
        self._seconds: dict[Part, float] = dict.fromkeys(PARTS, 0.0)
        self._part: Part = "outside"
        self._since = perf_counter()

    def begin(self, part: Part) -> None:
        """Ends the part that lasts, and begins another one. This runs ten times in a step, so it does no more."""
        now = perf_counter()
        self._seconds[self._part] += now - self._since
        self._part, self._since = part, now

    def seconds(self) -> dict[str, float]:
        """Returns the seconds of each part since the clock was made."""
        self.begin(self._part)
        return {str(part): seconds for part, seconds in self._seconds.items()}
