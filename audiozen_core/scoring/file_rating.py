"""What a worker does for one file: reads and compares its signals, or rates them with one metric."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from audiozen_core.audio.resampling import resample
from audiozen_core.scoring.file_signals import SignalFacts, SignalOptions, read_signals
from audiozen_core.scoring.pairing import RATED, PairedFile
from audiozen_core.scoring.rated_metrics import RatedMetric
from audiozen_core.scoring.rating import Rater
from audiozen_core.scoring.score_cache import Score

Step = tuple[int, int | None]
"""The index of a file, and the place of the metric to rate it with; None to read the file and compare its signals."""

WRONG_RATE = "the metric is not defined for the sample rate of the file, and `--resample` was not given"


@dataclass(frozen=True, slots=True)
class FileContent:
    """What was found out about the signals of a file.

    Attributes:
        facts: their forms.
        rates: for each metric, the rate at which it rates the file, in hertz; None if it can't.
        keys: for each metric, the key of its score in the cache; "" if the score can't be kept.
    """

    facts: SignalFacts
    rates: tuple[int | None, ...]
    keys: tuple[str, ...]


class FileRating:
    """Reads and rates files. The signals of the last file are kept, because several metrics rate it in a row.

    Args:
        files: the files.
        texts: what is said in each file; None if that is not known.
        metrics: the metrics.
        options: what may be done to the signals.
    """

    def __init__(
        self,
        files: Sequence[PairedFile],
        texts: Sequence[str | None],
        metrics: Sequence[RatedMetric],
        options: SignalOptions,
    ) -> None:
        self.files = files
        self.texts = texts
        self.metrics = metrics
        self.options = options
        self._last: tuple[int, dict[str, Tensor], SignalFacts] | None = None

    def __call__(self, step: Step) -> FileContent | Score:
        """Does one step.

        Raises:
            AudioZenError: a file can't be read, or the metric fails.
        """
        index, place = step
        if self._last is None or self._last[0] != index:
            self._last = (index, *read_signals(self.files[index], self.options, compare=place is None))
        _, signals, facts = self._last
        if place is None:
            return self._content(index, signals, facts)
        return self._rate(index, self.metrics[place], signals, facts.sr)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_last": None}

    def _content(self, index: int, signals: Mapping[str, Tensor], facts: SignalFacts) -> FileContent:
        rates = tuple(
            metric.rate(facts.sr, resample=self.options.resample) if signals else None for metric in self.metrics
        )
        digests = {
            kind: hashlib.blake2b(signal.contiguous().numpy().data, digest_size=16).hexdigest()
            for kind, signal in signals.items()
        }
        keys = []
        for metric, rate in zip(self.metrics, rates, strict=True):
            given = {"text": self.texts[index], **digests}
            used = [[need, given.get(need)] for need in (RATED, *metric.needs)]
            text = json.dumps([metric.key, facts.sr, rate, used])
            keys.append(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest())
        keys = [key if metric.key else "" for key, metric in zip(keys, self.metrics, strict=True)]
        return FileContent(facts, rates, tuple(keys))

    def _rate(self, index: int, metric: RatedMetric, signals: Mapping[str, Tensor], sr: int) -> Score:
        rate = metric.rate(sr, resample=self.options.resample)
        assert rate is not None
        # The rated signal is the last state.
        kinds = [need for need in metric.needs if need in signals]
        waves = {kind: resample(signals[kind], sr, rate) for kind in (*kinds, RATED)}
        far_end = waves.pop("far_end", None)
        rater = Rater([metric.metric], rate)
        row = rater.rate(self.files[index].id, waves, far_end=far_end, text=self.texts[index], only=RATED)
        return Score(row.values[RATED][metric.metric.name], "; ".join(row.faults.values()))
