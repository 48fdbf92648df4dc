"""The post-screening of listeners by ITU-R BS.1534-3: who does not recognise the hidden reference?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from audiozen_core.listening.anchors import REFERENCE
from audiozen_core.listening.key import Key
from audiozen_core.listening.ratings import Ratings

LOWEST = 90
"""A hidden reference that is rated lower than this was not recognised."""

MOST = 0.15
"""The part of the trials in which a listener may miss the hidden reference."""


@dataclass(frozen=True, slots=True)
class Missed:
    """How often a listener has rated the hidden reference below 90.

    Attributes:
        trials: the number of trials in which it was rated.
        below: in how many of them it was below 90.
    """

    trials: int
    below: int

    @property
    def too_often(self) -> bool:
        """Whether BS.1534-3 excludes the listener: in more than 15 % of the trials."""
        return self.below > MOST * self.trials


def missed_references(ratings: Ratings, key: Key) -> Missed:
    """Counts the hidden references that a listener has rated below 90 in a MUSHRA test."""
    (scale,) = key.method.scales
    hidden = [
        of[scale.name]
        for token, of in ratings.values.items()
        if key.stimuli[token].system == REFERENCE and scale.name in of
    ]
    return Missed(len(hidden), sum(value < LOWEST for value in hidden))


def screened(every: Mapping[str, Ratings], key: Key) -> tuple[dict[str, Ratings], dict[str, Missed]]:
    """Returns the ratings of the listeners who recognise the hidden reference, and how often the others miss it."""
    missed = {name: missed_references(ratings, key) for name, ratings in every.items()}
    out = {name: found for name, found in missed.items() if found.too_often}
    return {name: ratings for name, ratings in every.items() if name not in out}, out
