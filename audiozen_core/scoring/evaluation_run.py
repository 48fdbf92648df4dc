"""Rates the files of an evaluation: reads each file, and computes the scores that are not in the cache."""

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
from audiozen_core.scoring.score_cache import CachedScore, ScoreCache
from audiozen_core.scoring.worker_pool import FailedStep, run_jobs, workers_are_copies

_EXAMPLES = 5


class EvaluationRun:
    """The state of one evaluation.

    Args:
        rating: the object that reads and rates files.
        workers: the number of worker processes; 0 to compute everything in this process.
        cache: the cache of scores.
        require_all: whether each metric must rate at least one file, because the user has named the metrics.
        progress: whether to show a progress bar.

    Attributes:
        facts: the properties of the signals of each file, by the index of the file.
        rates: for each metric, the sample rates at which the metric rates files, in hertz.
        resampled: for each metric, the sample rates of the files that are resampled for the metric, in hertz.
    """

    def __init__(
        self, rating: FileRating, workers: int, cache: ScoreCache, *, require_all: bool = False, progress: bool = False
    ) -> None:
        self.facts: dict[int, SignalFacts] = {}
        self.rates: list[set[int]] = [set() for _ in rating.metrics]
        self.resampled: list[set[int]] = [set() for _ in rating.metrics]
        self._rating = rating
        self._workers = workers
        self._cache = cache
        self._require_all = require_all
        self._progress = progress
        self._unreadable: dict[int, str] = {}
        self._scores: dict[Step, CachedScore] = {}
        self._keys: dict[Step, str] = {}
        self._failures: dict[Step, str] = {}
        self._fitting: set[int] = set()

    def rate_all(self) -> None:
        """Reads all files, compares their signals, and computes the scores that are not cached.

        Raises:
            RunError: with `require_all`, a metric is not defined for the sample rate of any file.
        """
        first_pass, *later_passes = _passes(self._rating.metrics)
        # This process reads the first file itself, to find out whether any score must be computed.
        for step, content in run_jobs(self._rating, [[(0, None)]], workers=0):
            first = self._keep(step, content, first_pass)
        if first and self._workers and workers_are_copies():
            _import_modules([self._rating.metrics[metric_index] for metric_index in first_pass])
        self._run([first, *([(index, None)] for index in range(1, len(self._rating.files)))], first_pass)
        for metric_indices in later_passes:
            self._run(
                [self._missing(index, metric_indices) for index in range(len(self._rating.files))], metric_indices
            )
        if self._require_all:
            for metric_index in self.unused():
                raise _without_rate_error(self._rating.metrics[metric_index])

    def unused(self) -> list[int]:
        """Returns the indices of metrics that are not defined for the sample rate of any file.

        The result is empty if no metric can rate any file.
        """
        return [metric_index for metric_index, rates in enumerate(self.rates) if not rates and any(self.rates)]

    def _run(self, jobs: Sequence[Sequence[Step]], metric_indices: Sequence[int]) -> None:
        """Runs jobs that read files, and rates these files with the metrics at `metric_indices`."""
        results = run_jobs(
            self._rating,
            jobs,
            workers=self._workers,
            then=lambda step, result: self._keep(step, result, metric_indices),
        )
        rated = (index for (index, _), _ in results if not self._missing(index, metric_indices))
        label = ", ".join(self._rating.metrics[metric_index].metric.name for metric_index in metric_indices)
        # An error closes the generator, and with it the processes. Otherwise they would run until the error is
        # forgotten, because its traceback refers to the generator.
        with contextlib.closing(results):
            for _ in with_progress(rated, total=sum(map(bool, jobs)), label=label, shown=self._progress):
                pass

    def _missing(self, index: int, metric_indices: Sequence[int]) -> list[Step]:
        """Returns the steps that compute the scores of a file that are still missing."""
        steps: list[Step] = [(index, metric_index) for metric_index in metric_indices]
        return [step for step in steps if step in self._keys and step not in self._scores]

    def _keep(
        self, step: Step, result: FileContent | CachedScore | FailedStep, metric_indices: Sequence[int]
    ) -> list[Step]:
        """Stores the result of a step. If the step read a file, returns the steps that rate this file."""
        index, metric_index = step
        if isinstance(result, FileContent):
            self._note_content(index, result)
            return self._missing(index, metric_indices)
        if isinstance(result, CachedScore):
            self._scores[step] = result
            if key := self._keys[step]:
                self._cache.keep(key, result)
        elif metric_index is None:
            self._unreadable[index] = result.reason
        else:
            self._failures[step] = result.reason
            self._scores[step] = CachedScore(math.nan, result.reason)
        return []

    def _note_content(self, index: int, content: FileContent) -> None:
        self.facts[index] = content.facts
        for metric_index, (rate, key) in enumerate(zip(content.rates, content.keys, strict=True)):
            if rate is None:
                self._scores[index, metric_index] = CachedScore(math.nan, content.facts.refusal or WRONG_RATE)
                continue
            self.rates[metric_index].add(rate)
            used = (RATED, *self._rating.metrics[metric_index].needs)
            self.resampled[metric_index] |= {
                file_rate for kind, file_rate in content.facts.rates.items() if kind in used and file_rate != rate
            }
            self._keys[index, metric_index] = key
        cached = self._cache.find(filter(None, content.keys))
        self._scores |= {
            (index, metric_index): cached[key]
            for metric_index, key in enumerate(content.keys)
            if key in cached and (index, metric_index) in self._keys
        }
        if self._require_all and (unused := set(self.unused()) - self._fitting):
            # Raise the error now, not after hours of computing other metrics.
            for metric_index in unused:
                _check_rates(self._rating.metrics[metric_index], self._rating.files)
            self._fitting |= unused

    def scores_of(self, index: int, metric_indices: Sequence[int], conditions: Mapping[str, str]) -> FileScores:
        """Returns the scores of a file."""
        values, reasons = {}, {}
        for metric_index in metric_indices:
            name = self._rating.metrics[metric_index].metric.name
            score = self._scores.get((index, metric_index)) or CachedScore(math.nan, self._unreadable.get(index, ""))
            values[name] = score.value if math.isfinite(score.value) else math.nan
            if not math.isfinite(score.value):
                reasons[name] = score.reason or f"the metric gives {score.value} for this file"
        return FileScores(self._rating.files[index].id, values, conditions, reasons)

    @property
    def failed(self) -> int:
        """The number of files that could not be read or rated."""
        return len(self._unreadable.keys() | {index for index, _ in self._failures})

    def problems(self) -> list[str]:
        """Returns messages about files that could not be read, and about metrics that failed."""
        messages = []
        if self._unreadable:
            reasons = "; ".join(list(self._unreadable.values())[:_EXAMPLES])
            messages.append(f"{len(self._unreadable)} of {len(self._rating.files)} files can't be read: {reasons}")
        for metric_index, metric in enumerate(self._rating.metrics):
            reasons_of = {step[0]: reason for step, reason in self._failures.items() if step[1] == metric_index}
            if reasons_of:
                names = listed(
                    (f"{self._rating.files[index].id} ({reason})" for index, reason in reasons_of.items()),
                    most=_EXAMPLES,
                )
                messages.append(f"`{metric.metric.name}` failed for {len(reasons_of)} files: {names}")
        return messages


def _passes(metrics: Sequence[RatedMetric]) -> list[list[int]]:
    """Returns the metrics of each pass over the files: all metrics without a network, then each other one alone."""
    small = [metric_index for metric_index, metric in enumerate(metrics) if not metric.has_network]
    return [
        *([small] if small else []),
        *([metric_index] for metric_index, metric in enumerate(metrics) if metric.has_network),
    ]


def _import_modules(metrics: Iterable[RatedMetric]) -> None:
    """Imports the modules of metrics before the workers are forked, so that each module is imported only once."""
    for name in dict.fromkeys(name for rated in metrics for name in getattr(rated.metric, "modules", ())):
        with contextlib.suppress(Exception):  # the metric raises the error again when it is called
            importlib.import_module(name)


def _check_rates(metric: RatedMetric, files: Sequence[PairedFile]) -> None:
    """Raises a `RunError` if no file has a sample rate for which a metric is defined. Only headers are read."""
    for file in files:
        with contextlib.suppress(AudioZenError):
            rates = {audio_info(path).sr for path in file.paths.values()}
            if len(rates) == 1 and metric.rate(*rates, resample=False) is not None:
                return
    raise _without_rate_error(metric)


def _without_rate_error(metric: RatedMetric) -> RunError:
    return RunError(why_no_rate(metric), remedy="add `--resample`, or leave the metric out")


def why_no_rate(metric: RatedMetric) -> str:
    """Returns the message that a metric is not defined for the sample rate of any file."""
    rates = " or ".join(map(str, sorted(metric.metric.sample_rates)))  # type: ignore[attr-defined]
    return f"{metric.metric.label} takes {rates} Hz, and no file has this rate: `--resample` rates resampled copies"
