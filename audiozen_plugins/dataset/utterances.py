"""Chooses segments of speech for data sets that mix on the fly.

A segment is a part of an utterance. If an utterance is too short, further utterances of the same voice follow.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from audiozen_plugins.dataset.mixing import FloatArray
from audiozen_plugins.dataset.pool import Pool

PAUSE = 1e-3
"""Speech below this RMS (-60 dBFS) counts as a pause. Levels can't be set relative to a pause."""

_GAP_SECONDS = (0.05, 0.4)  # the shortest and the longest silence between joined utterances


class Segment(NamedTuple):
    """A part of an utterance: the index of the utterance, the first sample, and the length of the silence after it."""

    utterance: int
    start: int
    gap: int


class Utterances:
    """The utterances of a pool, by voice.

    Args:
        pool: the recordings of speech.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        counts = np.bincount(pool.recordings.voice_numbers, minlength=len(self.voices))
        self._starts = np.concatenate([[0], np.cumsum(counts)])

    @property
    def voices(self) -> Sequence[str]:
        """The different voices, in the order of the pool."""
        return self.pool.recordings.voices

    def voice(self, utterance: int) -> int:
        """Returns the number of the voice of an utterance."""
        return int(self.pool.recordings.voice_numbers[utterance])

    def of_voice(self, voice: int) -> Sequence[int]:
        """Returns the utterances of a voice, by its number, in the order of the pool."""
        return self.pool.recordings.by_voice[self._starts[voice] : self._starts[voice + 1]].data

    def fill(self, first: int, length: int | None, rng: random.Random) -> tuple[tuple[Segment, ...], int]:
        """Chooses segments that fill a length: a random part of an utterance, or several if it is shorter.

        Args:
            first: the index of the first utterance. Other utterances of the same voice follow it if it is too short.
            length: the length in samples; None for the whole utterance.
            rng: the generator.

        Returns:
            The segments, and the length in samples.
        """
        if length is None:
            return (Segment(first, 0, 0),), self.pool.lengths[first]
        if self.pool.lengths[first] >= length:
            return self.part(first, length, rng), length
        others = self.of_voice(self.voice(first))
        segments = []
        filled, utterance = 0, first
        while filled < length:
            gap = round(rng.uniform(*_GAP_SECONDS) * self.pool.sr)
            segments.append(Segment(utterance, 0, gap))
            filled += self.pool.lengths[utterance] + gap
            utterance = rng.choice(others)
        return tuple(segments), length

    def part(self, utterance: int, length: int, rng: random.Random) -> tuple[Segment, ...]:
        """Chooses a random part of an utterance. If the utterance is shorter, the whole utterance is used."""
        room = max(0, self.pool.lengths[utterance] - length)
        return (Segment(utterance, rng.randrange(room + 1), 0),)

    def read(self, segments: Sequence[Segment], length: int) -> FloatArray:
        """Reads segments one after another, as float32 [length]. If they are too short, silence follows."""
        first = segments[0]
        if self.pool.lengths[first.utterance] - first.start >= length:
            return self.pool.read(first.utterance, first.start, length)
        wave = np.zeros(length, np.float32)
        filled = 0
        for utterance, start, gap in segments:
            taken = min(self.pool.lengths[utterance] - start, length - filled)
            if taken <= 0:
                break
            wave[filled : filled + taken] = self.pool.read(utterance, start, taken)
            filled += taken + gap
        return wave


def spread(item: int, num_items: int, num_utterances: int) -> int:
    """Returns the utterance of a fixed item.

    Items go through all utterances in order. If there are fewer items than utterances, the chosen utterances are spread
    evenly.
    """
    return item % num_utterances if num_items >= num_utterances else item * num_utterances // num_items
