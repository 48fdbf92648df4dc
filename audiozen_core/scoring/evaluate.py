"""Scores the files of a folder: `audiozen evaluate`, and its function in Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from audiozen_core.diagnostics.listed import listed
from audiozen_core.distributed.cpus import usable_cpus
from audiozen_core.errors import DataError, RunError
from audiozen_core.results.id_table import IdTable, read_id_table
from audiozen_core.results.result_folders import find_results
from audiozen_core.results.scores import Scores
from audiozen_core.scoring.chosen import MetricSpec
from audiozen_core.scoring.conditions import check_condition_names, conditions_of
from audiozen_core.scoring.evaluation_run import EvaluationRun, why_no_rate
from audiozen_core.scoring.file_rating import FileRating
from audiozen_core.scoring.file_signals import SignalOptions
from audiozen_core.scoring.pairing import PairedFile, pair_files
from audiozen_core.scoring.rated_metrics import choose_metrics
from audiozen_core.scoring.score_cache import ScoreCache
from audiozen_core.scoring.signal_findings import signal_findings
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
    texts_of_files = [said.get(name) for name in ids]
    rating = FileRating(files, texts_of_files, chosen, options, keeps_scores=cache is not False)
    folder = None if cache is False else default_cache() if cache is None else Path(cache)
    workers = usable_cpus() if num_workers is None else num_workers
    kept = ScoreCache(folder)
    run = EvaluationRun(rating, workers, kept, asked=metrics is not None, progress=progress)
    try:
        run.rate_all()
    finally:
        kept.close()
    # Metrics that rate no file need no column, unless no file can be rated at all.
    unused = run.unused()
    used = [place for place in range(len(chosen)) if place not in unused]
    left_out |= {chosen[place].metric.name: why_no_rate(chosen[place]) for place in unused}
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
