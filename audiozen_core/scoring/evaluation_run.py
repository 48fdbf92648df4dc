"""Rates the files of an evaluation: opens each of them once, and computes what is not in the cache."""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Iterable, Mapping, Sequence

from audiozen_core.audio.files import audio_info
from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import AudioZenError, RunError
from audiozen_core.results.records import FileScores
from audiozen_core.scoring.file_rating import WRONG_RATE, FileContent, FileRating, Step
from audiozen_core.scoring.file_signals import SignalFacts
from audiozen_core.scoring.pairing import RATED, PairedFile
from audiozen_core.scoring.progress import with_progress
from audiozen_core.scoring.rated_metrics import RatedMetric
from audiozen_core.scoring.score_cache import Score, ScoreCache
from audiozen_core.scoring.worker_pool import Failed, run_jobs, workers_are_copies

_EXAMPLES = 5


class EvaluationRun:
    """The state of one evaluation.

    Args:
        rating: reads and rates files.
        workers: the number of processes; 0 for this process.
        cache: the scores that are known.
        asked: whether the user has named the metrics, so that one that can rate no file is an error.
        progress: whether to show a bar.

    Attributes:
        facts: what is known about the signals of each file, by its index.
        rates: for each metric, the rates at which it rates files, in hertz.
        resampled: for each metric, the rates of the files that are resampled for it.
    """

    def __init__(
        self, rating: FileRating, workers: int, cache: ScoreCache, *, asked: bool = False, progress: bool = False
    ) -> None:
        self.facts: dict[int, SignalFacts] = {}
        self.rates: list[set[int]] = [set() for _ in rating.metrics]
        self.resampled: list[set[int]] = [set() for _ in rating.metrics]
        self._rating = rating
        self._workers = workers
        self._cache = cache
        self._asked = asked
        self._progress = progress
        self._unreadable: dict[int, str] = {}
        self._scores: dict[Step, Score] = {}
        self._keys: dict[Step, str] = {}
        self._failures: dict[Step, str] = {}
        self._fitting: set[int] = set()

    def rate_all(self) -> None:
        """Reads all files, compares their signals, and computes the scores that are not known.

        Raises:
            RunError: a metric that was asked for is not defined for the rate of a single file.
        """
        first_pass, *later_passes = _passes(self._rating.metrics)
        # This process reads the first file, which shows whether anything has to be computed.
        for step, content in run_jobs(self._rating, [[(0, None)]], workers=0):
            first = self._keep(step, content, first_pass)
        if first and self._workers and workers_are_copies():
            _import_modules([self._rating.metrics[place] for place in first_pass])
        self._run([first, *([(index, None)] for index in range(1, len(self._rating.files)))], first_pass)
        for places in later_passes:
            self._run([self._missing(index, places) for index in range(len(self._rating.files))], places)
        if self._asked:
            for place in self.unused():
                raise _without_rate_error(self._rating.metrics[place])

    def unused(self) -> list[int]:
        """Returns the metrics that are not defined for the rate of a single file, if others are."""
        return [place for place, rates in enumerate(self.rates) if not rates and any(self.rates)]

    def _run(self, jobs: Sequence[Sequence[Step]], places: Sequence[int]) -> None:
        """Runs jobs, and rates the files that they read with some metrics."""
        results = run_jobs(
            self._rating,
            jobs,
            workers=self._workers,
            then=lambda step, result: self._keep(step, result, places),
        )
        rated = (index for (index, _), _ in results if not self._missing(index, places))
        label = ", ".join(self._rating.metrics[place].metric.name for place in places)
        for _ in with_progress(rated, total=sum(map(bool, jobs)), label=label, shown=self._progress):
            pass

    def _missing(self, index: int, places: Sequence[int]) -> list[Step]:
        """Returns the steps that compute those scores of a file that are not known."""
        steps: list[Step] = [(index, place) for place in places]
        return [step for step in steps if step in self._keys and step not in self._scores]

    def _keep(self, step: Step, result: FileContent | Score | Failed, places: Sequence[int]) -> list[Step]:
        """Keeps a result, and returns the steps with these metrics that are to follow it."""
        index, place = step
        if isinstance(result, FileContent):
            self._note_content(index, result)
            return self._missing(index, places)
        if isinstance(result, Score):
            self._scores[step] = result
            if key := self._keys[step]:
                self._cache.keep(key, result)
        elif place is None:
            self._unreadable[index] = result.reason
        else:
            self._failures[step] = result.reason
            self._scores[step] = Score(math.nan, result.reason)
        return []

    def _note_content(self, index: int, content: FileContent) -> None:
        self.facts[index] = content.facts
        for place, (rate, key) in enumerate(zip(content.rates, content.keys, strict=True)):
            if rate is None:
                self._scores[index, place] = Score(math.nan, content.facts.refusal or WRONG_RATE)
                continue
            self.rates[place].add(rate)
            used = (RATED, *self._rating.metrics[place].needs)
            self.resampled[place] |= {
                given for kind, given in content.facts.rates.items() if kind in used and given != rate
            }
            self._keys[index, place] = key
        known = self._cache.find(filter(None, content.keys))
        self._scores |= {
            (index, place): known[key]
            for place, key in enumerate(content.keys)
            if key in known and (index, place) in self._keys
        }
        if self._asked and (unused := set(self.unused()) - self._fitting):
            # Hours of other metrics should not come before the error.
            for place in unused:
                _check_rates(self._rating.metrics[place], self._rating.files)
            self._fitting |= unused

    def scores_of(self, index: int, places: Sequence[int], conditions: Mapping[str, str]) -> FileScores:
        """Returns the scores of a file."""
        values, reasons = {}, {}
        for place in places:
            name = self._rating.metrics[place].metric.name
            score = self._scores.get((index, place)) or Score(math.nan, self._unreadable.get(index, ""))
            values[name] = score.value if math.isfinite(score.value) else math.nan
            if not math.isfinite(score.value):
                reasons[name] = score.reason or f"the metric gives {score.value} for this file"
        return FileScores(self._rating.files[index].id, values, conditions, reasons)

    @property
    def failed(self) -> int:
        """The number of files that could not be read or rated."""
        return len(self._unreadable.keys() | {index for index, _ in self._failures})

    def problems(self) -> list[str]:
        """Says which files could not be read, and for which ones a metric failed."""
        found = []
        if self._unreadable:
            reasons = "; ".join(list(self._unreadable.values())[:_EXAMPLES])
            found.append(f"{len(self._unreadable)} of {len(self._rating.files)} files can't be read: {reasons}")
        for place, metric in enumerate(self._rating.metrics):
            reasons_of = {step[0]: reason for step, reason in self._failures.items() if step[1] == place}
            if reasons_of:
                names = listed(
                    (f"{self._rating.files[index].id} ({reason})" for index, reason in reasons_of.items()),
                    most=_EXAMPLES,
                )
                found.append(f"`{metric.metric.name}` failed for {len(reasons_of)} files: {names}")
        return found


def _passes(metrics: Sequence[RatedMetric]) -> list[list[int]]:
    """Returns which metrics are computed together: those without a network, then each other one by itself."""
    small = [place for place, metric in enumerate(metrics) if not metric.has_network]
    return [*([small] if small else []), *([place] for place, metric in enumerate(metrics) if metric.has_network)]


def _import_modules(metrics: Iterable[RatedMetric]) -> None:
    """Imports what metrics need before the workers begin as copies of this process, so that it is imported once."""
    for name in dict.fromkeys(name for one in metrics for name in getattr(one.metric, "modules", ())):
        with contextlib.suppress(Exception):  # the metric says what is wrong
            importlib.import_module(name)


def _check_rates(metric: RatedMetric, files: Sequence[PairedFile]) -> None:
    """Raises a `RunError` if no file has a rate that a metric is defined for. Only headers are read."""
    for file in files:
        with contextlib.suppress(AudioZenError):
            rates = {audio_info(path).sr for path in file.paths.values()}
            if len(rates) == 1 and metric.rate(*rates, resample=False) is not None:
                return
    raise _without_rate_error(metric)


def _without_rate_error(metric: RatedMetric) -> RunError:
    return RunError(why_no_rate(metric), remedy="add `--resample`, or leave the metric out")


def why_no_rate(metric: RatedMetric) -> str:
    """Says that a metric is not defined for the rate of a single file."""
    rates = " or ".join(map(str, sorted(metric.metric.sample_rates)))  # type: ignore[attr-defined]
    return f"{metric.metric.label} takes {rates} Hz, and no file has this rate: `--resample` rates resampled copies"
