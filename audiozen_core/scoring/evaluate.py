"""Scores the files of a folder, as the command `audiozen evaluate` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from audiozen_core.binding.ranges import Natural, out_of_range
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
    num_workers: Natural | None = None,
    align: bool = False,
    resample: bool = False,
    allow_missing: bool = False,
    cache: str | Path | Literal[False] | None = None,
    progress: bool = False,
) -> Scores:
    """Scores the files of a folder in several processes. Scores are cached, so that they are computed only once.

    Files are paired by their relative paths without extensions. The `findings` of the result describe differences in
    length, sample rate, channels, delay and polarity. If a file can't be read or rated, it has no values, and the other
    files are still scored.

    Args:
        enhanced: the folder of the files to rate; or a run, or the result folder of a test, which also contains the
            clean and the noisy files.
        clean: the folder of the clean files; without it, only reference-free metrics can be computed.
        noisy: the folder of the noisy files, for metrics that need them, such as the improvement of the SI-SDR.
        far_end: the folder of the loudspeaker signals, for metrics of echo cancellation.
        text: a file with the transcripts: CSV or TSV with the columns `id` and `text`, or lines with an ID followed by
            the words.
        metrics: the metrics, as names, tables or objects, or one name; None for all installed metrics that can be
            computed from the other arguments.
        by: the names of the conditions for which separate means are computed, such as `snr`; or one name.
        conditions: a CSV, TSV or JSONL file with the conditions of each file.
        num_workers: the number of worker processes; None for one per CPU, 0 to compute everything in this process. The
            number does not change the scores.
        align: whether to remove the delay between a file and its clean file before the files are compared.
        resample: whether to compare files with different sample rates at the lower rate, and to resample for metrics
            that are not defined for the rate of the files.
        allow_missing: whether to leave out files that lack their clean, noisy or far-end file.
        cache: the folder of the cache, by default `audiozen` in `$XDG_CACHE_HOME` or in `~/.cache`; False for none.
        progress: whether to show a bar on standard error.

    Returns:
        The scores. They provide means with confidence intervals and tables, and can be written to a folder.

    Raises:
        DataError: a folder or file is missing or can't be used, or a file lacks its clean, noisy or far-end file.
        RunError: `num_workers` is not an integer of at least 0; a metric can't be used; a condition has no value for
            any file; or a condition has the name of a metric.
    """
    if num_workers is not None and (wrong := out_of_range(evaluate, {"num_workers": num_workers})):
        raise RunError(wrong, remedy="give the number of processes, or None for one per CPU")
    by = [by] if isinstance(by, str) else by
    metrics = [metrics] if isinstance(metrics, str) else metrics
    pairing = pair_files(enhanced, {"clean": clean, "noisy": noisy, "far_end": far_end}, allow_missing=allow_missing)
    texts = None if text is None else read_id_table(text, text=True)
    transcripts, text_findings = _texts_of(pairing.files, texts, allow_missing=allow_missing)
    files = [file for file in pairing.files if texts is None or file.id in transcripts]
    ids = [file.id for file in files]
    table = _condition_table(enhanced, conditions, by)
    groups, condition_findings = conditions_of(by, ids, table)
    available = {*pairing.folders, *(["text"] if texts is not None else [])}
    chosen, left_out = choose_metrics(metrics, available)
    check_condition_names(by, {rated.metric.name for rated in chosen})
    options = SignalOptions(align=align, resample=resample)
    texts_of_files = [transcripts.get(name) for name in ids]
    rating = FileRating(files, texts_of_files, chosen, options, keeps_scores=cache is not False)
    folder = None if cache is False else default_cache() if cache is None else Path(cache)
    workers = usable_cpus() if num_workers is None else num_workers
    score_cache = ScoreCache(folder)
    run = EvaluationRun(rating, workers, score_cache, require_all=metrics is not None, progress=progress)
    try:
        run.rate_all()
    finally:
        score_cache.close()
    # A metric that rates no file gets no column, unless no metric can rate any file.
    unused = run.unused()
    used = [index for index in range(len(chosen)) if index not in unused]
    left_out |= {chosen[index].metric.name: why_no_rate(chosen[index]) for index in unused}
    facts = {ids[index]: facts_of_file for index, facts_of_file in run.facts.items()}
    return Scores(
        tuple(chosen[index].info(run.rates[index], run.resampled[index]) for index in used),
        tuple(run.scores_of(index, used, groups[name]) for index, name in enumerate(ids)),
        tuple(by),
        {kind: str(path) for kind, path in pairing.folders.items()} | ({"text": str(text)} if text else {}),
        (*pairing.findings, *text_findings, *condition_findings, *signal_findings(facts, options), *run.problems()),
        left_out,
        run.failed,
    )


def _texts_of(
    files: Sequence[PairedFile], table: IdTable | None, *, allow_missing: bool
) -> tuple[dict[str, str], list[str]]:
    """Returns the transcript of each file by its ID, and messages about files without a transcript."""
    if table is None:
        return {}, []
    transcripts = {file.id: row["text"] for file in files if (row := table.find(file.id)) and row.get("text")}
    without = [file.id for file in files if file.id not in transcripts]
    if not without:
        return transcripts, []
    line = f"{len(without)} of {len(files)} files have no text in `{table.path}`: {listed(without)}"
    if not allow_missing or not transcripts:
        raise DataError(line, remedy="add their texts; `--allow-missing` leaves out files without a text")
    return transcripts, [f"{line} (left out)"]


def _condition_table(enhanced: str | Path, file: str | Path | None, by: Sequence[str]) -> IdTable | None:
    """Returns the table of the conditions: the file named by the user, or the scores of the evaluated test."""
    if file is not None:
        table = read_id_table(file)
        if not by:
            raise RunError(
                f"`{file}` has conditions, but `--by` names none of them",
                remedy=f"choose some with `--by`; the file has {', '.join(table.columns) or 'no columns'}",
            )
        return table
    results = find_results(Path(enhanced)) if by else None
    return read_id_table(results / "scores.csv") if results else None
