"""Scores the files of a folder: `audiozen evaluate`, and its function in Python."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import DataError, RunError
from audiozen_core.results.id_table import IdTable, read_id_table
from audiozen_core.results.records import FileScores
from audiozen_core.results.result_folders import find_results
from audiozen_core.results.scores import Scores
from audiozen_core.scoring.chosen import MetricSpec
from audiozen_core.scoring.conditions import check_condition_names, conditions_of
from audiozen_core.scoring.file_rating import WRONG_RATE, FileContent, FileRating, Step
from audiozen_core.scoring.file_signals import SignalFacts, SignalOptions
from audiozen_core.scoring.pairing import RATED, PairedFile, pair_files
from audiozen_core.scoring.progress import with_progress
from audiozen_core.scoring.rated_metrics import RatedMetric, choose_metrics
from audiozen_core.scoring.score_cache import Score, ScoreCache
from audiozen_core.scoring.signal_findings import signal_findings
from audiozen_core.scoring.worker_pool import Failed, run_jobs, usable_cpus
from audiozen_core.storage.cache_folder import default_cache

_EXAMPLES = 5


def evaluate(
    enhanced: str | Path,
    clean: str | Path | None = None,
    noisy: str | Path | None = None,
    *,
    far_end: str | Path | None = None,
    text: str | Path | None = None,
    metrics: str | Sequence[MetricSpec] | None = None,
    by: str | Sequence[str] = (),
    conditions: str | Path | None = None,
    num_workers: int | None = None,
    align: bool = False,
    resample: bool = False,
    allow_missing: bool = False,
    cache: str | Path | Literal[False] | None = None,
    progress: bool = False,
) -> Scores:
    """Scores the files of a folder, in several processes. What is computed once is found in a cache later.

    Files are paired by their relative paths without endings. Differences in length, rate, channels, delay and sign are
    in the `findings` of the result. A file that can't be read or rated has no values, and the others go on.

    Args:
        enhanced: the folder of the files to rate; or a run or a result folder of a test, which also has the clean and
            the noisy files.
        clean: the folder of the clean files; without it, only reference-free metrics can be computed.
        noisy: the folder of the noisy files, for metrics that need them, such as the improvement of the SI-SDR.
        far_end: the folder of the signals of the loudspeaker, for metrics of echo cancellation.
        text: a file with what is said: CSV or TSV with the columns `id` and `text`, or lines of an ID and the words.
        metrics: the metrics, as names, tables or objects, or one name; None for all that are installed and need only
            what is given.
        by: the names of the conditions whose means the table has, such as `snr`; or one name.
        conditions: a CSV, TSV or JSONL file with the conditions of each file.
        num_workers: the number of processes; None for one on each CPU, 0 for this process. The scores don't depend on
            it.
        align: whether to shift files by their delay.
        resample: whether to compare files of different sample rates at the lower one, and to resample for metrics that
            are not defined for the rate of the files.
        allow_missing: whether to leave out files without a partner.
        cache: the folder of the cache, by default `audiozen` in `$XDG_CACHE_HOME` or in `~/.cache`; False for none.
        progress: whether to show a bar on standard error.

    Returns:
        The scores. They have tables, means with intervals, and can be written to a folder.

    Raises:
        DataError: a folder or file is missing or can't be used, or files lack their partners.
        RunError: a metric can't be used; or a condition has no value for any file, or the name of a metric.
    """
    by = [by] if isinstance(by, str) else by
    metrics = [metrics] if isinstance(metrics, str) else metrics
    pairing = pair_files(enhanced, {"clean": clean, "noisy": noisy, "far_end": far_end}, allow_missing=allow_missing)
    texts = None if text is None else read_id_table(text, text=True)
    said, findings = _texts_of(pairing.files, texts, allow_missing=allow_missing)
    files = [file for file in pairing.files if texts is None or file.id in said]
    ids = [file.id for file in files]
    table = _condition_table(enhanced, conditions, by)
    groups, of_conditions = conditions_of(by, ids, table)
    given = {*pairing.folders, *(["text"] if texts is not None else [])}
    chosen, left_out = choose_metrics(metrics, given)
    check_condition_names(by, {of.metric.name for of in chosen})
    options = SignalOptions(align=align, resample=resample)
    rating = FileRating(files, [said.get(name) for name in ids], chosen, options)
    folder = None if cache is False else default_cache() if cache is None else Path(cache)
    run = _Run(rating, usable_cpus() if num_workers is None else num_workers, ScoreCache(folder), progress)
    try:
        run.read_all()
        # Metrics that rate no file need no column, unless no file can be rated at all.
        used = [place for place in range(len(chosen)) if run.rates[place] or not any(run.rates)]
        unused = [metric for place, metric in enumerate(chosen) if place not in used]
        left_out |= _without_rate(unused, asked=metrics is not None)
        for places in _passes(chosen):
            run.rate_all(places)
    finally:
        run.cache.close()
    facts = {ids[index]: of_file for index, of_file in run.facts.items()}
    return Scores(
        tuple(chosen[place].info(run.rates[place], run.resampled[place]) for place in used),
        tuple(run.scores_of(index, used, groups[name]) for index, name in enumerate(ids)),
        tuple(by),
        {kind: str(path) for kind, path in pairing.folders.items()} | ({"text": str(text)} if text else {}),
        (*pairing.findings, *findings, *of_conditions, *signal_findings(facts, options), *run.problems()),
        left_out,
        run.failed,
    )


class _Run:
    """The state of one evaluation."""

    def __init__(self, rating: FileRating, workers: int, cache: ScoreCache, progress: bool) -> None:
        self.cache = cache
        self.facts: dict[int, SignalFacts] = {}
        self.rates: list[set[int]] = [set() for _ in rating.metrics]
        self.resampled: list[set[int]] = [set() for _ in rating.metrics]
        self._rating = rating
        self._workers = workers
        self._progress = progress
        self._unreadable: dict[int, str] = {}
        self._scores: dict[Step, Score] = {}
        self._keys: dict[Step, str] = {}
        self._failures: dict[Step, str] = {}

    def read_all(self) -> None:
        """Reads and compares the signals of all files, and looks for their scores in the cache."""
        for (index, _), content in self._run([[(index, None)] for index in range(len(self._rating.files))], "reading"):
            if isinstance(content, Failed):
                self._unreadable[index] = content.reason
                continue
            assert isinstance(content, FileContent)
            self.facts[index] = content.facts
            for place, (rate, key) in enumerate(zip(content.rates, content.keys, strict=True)):
                if rate is None:
                    self._scores[index, place] = Score(math.nan, content.facts.refusal or WRONG_RATE)
                else:
                    self.rates[place].add(rate)
                    used = (RATED, *self._rating.metrics[place].needs)
                    self.resampled[place] |= {
                        given for kind, given in content.facts.rates.items() if kind in used and given != rate
                    }
                    self._keys[index, place] = key
        known = self.cache.find(filter(None, self._keys.values()))
        self._scores |= {step: known[key] for step, key in self._keys.items() if key in known}

    def rate_all(self, places: Sequence[int]) -> None:
        """Computes the scores of some metrics, as far as they are not known."""
        jobs: dict[int, list[Step]] = {}
        for index, place in self._keys:
            if place in places and (index, place) not in self._scores:
                jobs.setdefault(index, []).append((index, place))
        names = ", ".join(self._rating.metrics[place].metric.name for place in places)
        for step, score in self._run(list(jobs.values()), names):
            if isinstance(score, Failed):
                self._failures[step] = score.reason
                self._scores[step] = Score(math.nan, score.reason)
                continue
            assert isinstance(score, Score)
            self._scores[step] = score
            if key := self._keys[step]:
                self.cache.keep(key, score)

    def _run(self, jobs: list[list[Step]], label: str) -> Iterator[tuple[Step, FileContent | Score | Failed]]:
        results = run_jobs(self._rating, jobs, workers=self._workers)
        return with_progress(results, total=sum(map(len, jobs)), label=label, shown=self._progress)

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


def _texts_of(
    files: Sequence[PairedFile], table: IdTable | None, *, allow_missing: bool
) -> tuple[dict[str, str], list[str]]:
    """Returns the text of each file by its ID, and what is remarkable, in words."""
    if table is None:
        return {}, []
    found = {file.id: row["text"] for file in files if (row := table.find(file.id)) and row.get("text")}
    without = [file.id for file in files if file.id not in found]
    if not without:
        return found, []
    line = f"{len(without)} of {len(files)} files have no text in `{table.path}`: {listed(without)}"
    if not allow_missing or not found:
        raise DataError(line, remedy="add their texts; `--allow-missing` leaves out files without a text")
    return found, [f"{line} (left out)"]


def _condition_table(enhanced: str | Path, file: str | Path | None, by: Sequence[str]) -> IdTable | None:
    """Returns the table of the conditions: the file that was named, or the scores of the test that is evaluated."""
    if file is not None:
        table = read_id_table(file)
        if not by:
            raise RunError(
                f"`{file}` has conditions, but none of them is asked for",
                remedy=f"name them with `--by`, of {', '.join(table.columns) or 'none'}",
            )
        return table
    results = find_results(Path(enhanced)) if by else None
    return read_id_table(results / "scores.csv") if results else None


def _without_rate(metrics: Sequence[RatedMetric], *, asked: bool) -> dict[str, str]:
    """Returns why metrics are left out that are not defined for the rate of a single file.

    Raises:
        RunError: they were asked for.
    """
    reasons = {
        of.metric.name: f"{of.metric.label} takes {' or '.join(map(str, sorted(of.metric.sample_rates)))} Hz, and no "  # type: ignore[attr-defined]
        "file has this rate: `--resample` rates resampled copies"
        for of in metrics
    }
    if asked and reasons:
        raise RunError(next(iter(reasons.values())), remedy="add `--resample`, or leave the metric out")
    return reasons
