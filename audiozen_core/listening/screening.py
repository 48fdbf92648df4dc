"""Post-screening of listeners according to ITU-R BS.1534-3.

In a MUSHRA test, one of the signals to rate is the reference itself, without a label: the *hidden reference*. Listeners
who often rate it low are excluded from the results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from audiozen_core.listening.anchors import REFERENCE
from audiozen_core.listening.answer_key import AnswerKey
from audiozen_core.listening.ratings import Ratings

LOWEST = 90
"""A listener who rates the hidden reference below this value has missed it."""

MOST = 0.15
"""The largest fraction of the trials in which a listener may miss the hidden reference."""


@dataclass(frozen=True, slots=True)
class MissedReferences:
    """How often a listener has missed the hidden reference.

    Attributes:
        trials: the number of trials in which the listener rated the hidden reference.
        below: the number of these trials with a rating below 90.
    """

    trials: int
    below: int

    @property
    def too_often(self) -> bool:
        """Whether the listener has missed the hidden reference in more than 15 % of the trials."""
        return self.below > MOST * self.trials


def missed_references(ratings: Ratings, key: AnswerKey) -> MissedReferences:
    """Counts the trials of a MUSHRA test in which a listener has rated the hidden reference below 90."""
    (scale,) = key.method.scales
    hidden = [
        values[scale.name]
        for token, values in ratings.values.items()
        if key.stimuli[token].system == REFERENCE and scale.name in values
    ]
    return MissedReferences(len(hidden), sum(value < LOWEST for value in hidden))


def screen_listeners(
    by_listener: Mapping[str, Ratings], key: AnswerKey
) -> tuple[dict[str, Ratings], dict[str, MissedReferences]]:
    """Excludes the listeners who have missed the hidden reference too often.

    Args:
        by_listener: the ratings of each listener, by name.
        key: the key of the test.

    Returns:
        The ratings of the remaining listeners, and the counts of the excluded listeners; both by name.
    """
    missed = {name: missed_references(ratings, key) for name, ratings in by_listener.items()}
    excluded = {name: counts for name, counts in missed.items() if counts.too_often}
    return {name: ratings for name, ratings in by_listener.items() if name not in excluded}, excluded
