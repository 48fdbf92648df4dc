"""Post-screening of listeners after ITU-R BS.1534-3: excludes listeners who do not recognise the hidden reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from audiozen_core.listening.anchors import REFERENCE
from audiozen_core.listening.key import Key
from audiozen_core.listening.ratings import Ratings

LOWEST = 90
"""A listener who rates the hidden reference below this has not recognised it."""

MOST = 0.15
"""The fraction of the trials in which a listener is allowed to miss the hidden reference."""


@dataclass(frozen=True, slots=True)
class Missed:
    """How often a listener has missed the hidden reference.

    Attributes:
        trials: the number of trials in which the listener rated the hidden reference.
        below: the number of these trials with a rating below 90.
    """

    trials: int
    below: int

    @property
    def too_often(self) -> bool:
        """Whether BS.1534-3 excludes the listener, who has missed the reference in more than 15 % of the trials."""
        return self.below > MOST * self.trials


def missed_references(ratings: Ratings, key: Key) -> Missed:
    """Counts the hidden references that a listener has rated below 90 in a MUSHRA test."""
    (scale,) = key.method.scales
    hidden = [
        values[scale.name]
        for token, values in ratings.values.items()
        if key.stimuli[token].system == REFERENCE and scale.name in values
    ]
    return Missed(len(hidden), sum(value < LOWEST for value in hidden))


def screened(by_listener: Mapping[str, Ratings], key: Key) -> tuple[dict[str, Ratings], dict[str, Missed]]:
    """Separates the listeners who recognise the hidden reference from the others.

    Returns:
        The ratings of the listeners who recognise it, and for each other listener, how often they miss it.
    """
    missed = {name: missed_references(ratings, key) for name, ratings in by_listener.items()}
    excluded = {name: counts for name, counts in missed.items() if counts.too_often}
    return {name: ratings for name, ratings in by_listener.items() if name not in excluded}, excluded
