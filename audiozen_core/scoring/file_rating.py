"""Reads and compares the signals of a file, and rates the file with metrics. This code runs in worker processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from audiozen_core.audio.resampling import resample
from audiozen_core.scoring.file_signals import SignalFacts, SignalOptions, read_signals
from audiozen_core.scoring.pairing import RATED, PairedFile
from audiozen_core.scoring.rated_metrics import RatedMetric
from audiozen_core.scoring.rating import FaultCache, Rater
from audiozen_core.scoring.score_cache import CachedScore

Step = tuple[int, int | None]
"""The index of a file and the index of a metric: the step rates the file with the metric.

If the second index is None, the step reads the file and compares its signals."""

WRONG_RATE = "the metric is not defined for the sample rate of the file, and `--resample` was not given"


@dataclass(frozen=True, slots=True)
class FileContent:
    """What is known about a file after reading it.

    Attributes:
        facts: the properties of the file's signals.
        rates: for each metric, the sample rate at which the metric rates the file, in hertz; None if it can't rate the
            file.
        keys: for each metric, the key of the file's score in the cache; "" if the score can't be cached.
    """

    facts: SignalFacts
    rates: tuple[int | None, ...]
    keys: tuple[str, ...]


@dataclass(slots=True)
class _OpenFile:
    """A file that has been read.

    Attributes:
        index: the index of the file.
        signals: the signals by role (`enhanced`, `clean`, `noisy`, `far_end`), at the sample rate `facts.sr`.
        facts: the properties of the signals.
        rate: the sample rate of `waves`, in hertz: the rate at which the last metric rated the file.
        waves: the signals that have been resampled to `rate` for metrics, by role.
        fault_cache: a cache of the faults of `waves`.
    """

    index: int
    signals: Mapping[str, Tensor]
    facts: SignalFacts
    rate: int | None = None
    waves: dict[str, Tensor] = field(default_factory=dict)
    fault_cache: FaultCache = field(default_factory=FaultCache)


class FileRating:
    """Reads and rates files. The signals of the last file are kept, because several metrics rate it in a row.

    Args:
        files: the files.
        texts: the transcript of each file, or None.
        metrics: the metrics.
        options: how signals are processed before they are compared.
        keeps_scores: whether the scores are cached, so that each score needs a key.
    """

    def __init__(
        self,
        files: Sequence[PairedFile],
        texts: Sequence[str | None],
        metrics: Sequence[RatedMetric],
        options: SignalOptions,
        *,
        keeps_scores: bool = True,
    ) -> None:
        self.files = files
        self.texts = texts
        self.metrics = metrics
        self.options = options
        self._keeps_scores = keeps_scores
        self._last: _OpenFile | None = None

    def __call__(self, step: Step) -> FileContent | CachedScore:
        """Runs one step.

        Raises:
            AudioZenError: a file can't be read, or the metric fails.
        """
        index, metric_index = step
        if self._last is None or self._last.index != index:
            signals, facts = read_signals(self.files[index], self.options, compare=metric_index is None)
            self._last = _OpenFile(index, signals, facts)
        if metric_index is None:
            return self._content(self._last)
        return self._rate(self._last, self.metrics[metric_index])

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_last": None}

    def _content(self, file: _OpenFile) -> FileContent:
        sr = file.facts.sr
        rates = tuple(
            metric.rate(sr, resample=self.options.resample) if file.signals else None for metric in self.metrics
        )
        if not self._keeps_scores:
            return FileContent(file.facts, rates, ("",) * len(rates))
        digests = {
            kind: hashlib.blake2b(signal.contiguous().numpy().data, digest_size=16).hexdigest()
            for kind, signal in file.signals.items()
        }
        keys = []
        for metric, rate in zip(self.metrics, rates, strict=True):
            inputs = {"text": self.texts[file.index], **digests}
            used = [[need, inputs.get(need)] for need in (RATED, *metric.needs)]
            text = json.dumps([metric.key, sr, rate, used])
            keys.append(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest())
        keys = [key if metric.key else "" for key, metric in zip(keys, self.metrics, strict=True)]
        return FileContent(file.facts, rates, tuple(keys))

    def _rate(self, file: _OpenFile, metric: RatedMetric) -> CachedScore:
        sr = file.facts.sr
        rate = metric.rate(sr, resample=self.options.resample)
        assert rate is not None
        if file.rate != rate:
            file.rate, file.waves, file.fault_cache = rate, {}, FaultCache()
        # `Rater` expects the rated signal last.
        kinds = [kind for kind in (*metric.needs, RATED) if kind in file.signals]
        for kind in kinds:
            if kind not in file.waves:
                file.waves[kind] = resample(file.signals[kind], sr, rate)
        waves = {kind: file.waves[kind] for kind in kinds}
        far_end = waves.pop("far_end", None)
        rater = Rater([metric.metric], rate, fault_cache=file.fault_cache)
        text = self.texts[file.index]
        row = rater.rate(self.files[file.index].id, waves, far_end=far_end, text=text, only=RATED)
        return CachedScore(row.values[RATED][metric.metric.name], "; ".join(row.faults.values()))
