"""Compares systems by the ratings of listeners."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.errors import DataError, RunError
from audiozen_core.listening.answer_key import CONTROL, ENDING, AnswerKey, read_key
from audiozen_core.listening.methods import MUSHRA
from audiozen_core.listening.ratings import Ratings, check_ratings, find_ratings, read_ratings
from audiozen_core.listening.screening import LOWEST, screen_listeners
from audiozen_core.results.compare_systems import compare_systems
from audiozen_core.results.comparison import Comparison
from audiozen_core.results.files import write_table
from audiozen_core.results.id_table import read_id_table
from audiozen_core.results.records import FileScores, MetricInfo
from audiozen_core.results.scores import Scores
from audiozen_core.results.systems import ScoredSystem
from audiozen_core.results.tables import TableForm
from audiozen_core.scoring.conditions import conditions_of


@dataclass(frozen=True, slots=True)
class RatedComparison(Comparison):
    """A comparison of systems by ratings. `write` also writes all ratings to `ratings.csv`.

    Attributes:
        rows: all ratings: listener, file ID, system, scale and rating.
    """

    rows: tuple[tuple[str, str, str, str, float], ...] = ()

    def write(self, folder: str | Path, form: TableForm = "text", *, intervals: bool = False) -> list[Path]:
        """Writes the files of a comparison, and `ratings.csv` with one rating in each row.

        Raises:
            OSError: a file can't be written. An existing file with this name stays unchanged.
        """
        written = Comparison.write(self, folder, form, intervals=intervals)
        header = ["listener", "id", "system", "scale", "rating"]
        return [*written, write_table(Path(folder) / "ratings.csv", header, self.rows)]


def compare_ratings(
    ratings: Sequence[str | Path],
    *,
    key: str | Path | None = None,
    baseline: str | None = None,
    metrics: Sequence[str] | None = None,
    by: Sequence[str] = (),
    conditions: str | Path | None = None,
    keep_all: bool = False,
) -> RatedComparison:
    """Compares systems with a baseline by the ratings of a listening test.

    Args:
        ratings: the files that the listeners downloaded from the page, or folders with such files.
        key: the key file of the page, which says what each recording is; None searches for `*.key.json` next to the
            ratings and in the working directory.
        baseline: the name of the system that all other systems are compared with; None for the first system.
        metrics: the scales to compare, such as `signal`, `background` and `overall` of P.835; None for all scales.
        by: the conditions by which the files are grouped, as in `evaluate`.
        conditions: a CSV, TSV or JSONL file with the conditions of the files.
        keep_all: whether to keep the ratings of listeners who do not recognise the hidden reference of MUSHRA.

    Raises:
        DataError: a file can't be read, was changed or belongs to another page; or no ratings are left.
        RunError: the key can't be found, or a name is unknown.
    """
    files = [read_ratings(path) for path in find_ratings(ratings)]
    page_key = _key(files, key)
    for file in files:
        check_ratings(file, page_key)
    by_listener = _by_listener(files)
    notes: list[str] = []
    kept = by_listener
    if page_key.method is MUSHRA:
        recognising, missed = screen_listeners(by_listener, page_key)
        for name, counts in missed.items():
            decision = "kept, because of --keep-all" if keep_all else "excluded (BS.1534-3; use --keep-all to keep)"
            notes.append(
                f"warning: {name} rates the hidden reference below {LOWEST} in {counts.below} of {counts.trials} "
                f"trials: {decision}"
            )
        kept = by_listener if keep_all else recognising
        if not kept:
            raise DataError(
                "no listener is left: all listeners miss the hidden reference in more than 15 % of the trials",
                notes=[note.removeprefix("warning: ") for note in notes],
                remedy="use `--keep-all` to keep their ratings",
            )
    complete = {name: _complete(listener_ratings, page_key) for name, listener_ratings in kept.items()}
    notes += _incomplete(kept, complete, page_key)
    complete = {name: rated_files for name, rated_files in complete.items() if rated_files}
    if not complete:
        raise DataError(
            "no listener has rated all systems for any file, so there is nothing to compare",
            notes=notes,
            remedy="ask the listeners to continue the test",
        )
    ids = sorted({file for rated_files in complete.values() for file in rated_files})
    systems = _ordered([_scored(page_key, row, ids, complete) for row in page_key.systems], baseline)
    values: dict[str, dict[str, str]] = {name: {} for name in dict.fromkeys(by)}
    if by:
        table = read_id_table(conditions) if conditions is not None else None
        values_of_file, condition_notes = conditions_of(list(values), ids, table)
        values = {name: {file: values_of_file[file][name] for file in ids} for name in values}
        notes += condition_notes
    compared = compare_systems(systems, metrics=metrics, conditions=values, notes=notes, listeners=tuple(complete))
    rows = tuple(
        (name, page_key.stimuli[token].file, page_key.stimuli[token].system, scale, float(rating))
        for name, listener_ratings in kept.items()
        for token, ratings_of_scale in listener_ratings.values.items()
        for scale, rating in ratings_of_scale.items()
    )
    fields: dict[str, Any] = {name: getattr(compared, name) for name in compared.__dataclass_fields__}
    return RatedComparison(**fields, rows=rows)


def _key(files: Sequence[Ratings], path_of_key: str | Path | None) -> AnswerKey:
    if path_of_key is not None:
        return read_key(Path(path_of_key))
    folders = dict.fromkeys([*(file.path.absolute().parent for file in files), Path.cwd()])
    page = files[0].page
    for path in (path for folder in folders for path in sorted(folder.glob(f"*{ENDING}"))):
        try:
            key = read_key(path)
        except DataError:  # probably the key of another page, written by another version
            continue
        if key.page == page:
            return key
    raise RunError(
        f"the key of the page `{page}` is neither next to the ratings nor in the working directory",
        remedy="give the key with `--key`; `audiozen listen` wrote it next to the page, as `PAGE.key.json`",
    )


def _by_listener(files: Sequence[Ratings]) -> dict[str, Ratings]:
    by_listener: dict[str, Ratings] = {}
    for file in files:
        if file.listener in by_listener:
            raise DataError(
                f"`{by_listener[file.listener].path}` and `{file.path}` are from the same listener, `{file.listener}`",
                remedy="only give the newer file; if two people chose the same name, change `listener` in one of the "
                "files",
            )
        by_listener[file.listener] = file
    return by_listener


def _complete(ratings: Ratings, key: AnswerKey) -> dict[str, dict[str, dict[str, int]]]:
    """Returns the ratings of files for which a listener has rated all systems on all scales: [file][system][scale]."""
    scales = {scale.name for scale in key.method.scales}
    by_file: dict[str, dict[str, dict[str, int]]] = {}
    for token, values in ratings.values.items():
        if scales <= values.keys():
            stimulus = key.stimuli[token]
            by_file.setdefault(stimulus.file, {})[stimulus.system] = dict(values)
    return {file: systems for file, systems in by_file.items() if len(systems) == len(key.systems)}


def _incomplete(kept: Mapping[str, Ratings], complete: Mapping[str, Mapping[str, object]], key: AnswerKey) -> list[str]:
    files = {stimulus.file for stimulus in key.stimuli.values()}
    notes = []
    for name in kept:
        count, rated = len(complete[name]), len(kept[name].values)
        if count < len(files):
            recordings = f", with {rated} of {len(key.stimuli)} recordings rated" if rated else ""
            notes.append(
                f"warning: {name} has not finished the test: {count} of {len(files)} files count{recordings}; a file "
                "only counts if all of its recordings are rated"
            )
    return notes


def _scored(
    key: AnswerKey, row: Any, ids: Sequence[str], complete: Mapping[str, Mapping[str, Mapping[str, Mapping[str, int]]]]
) -> ScoredSystem:
    ratings = {
        scale.name: {
            file: [
                float(rated_files[file][row.name][scale.name]) if file in rated_files else math.nan
                for rated_files in complete.values()
            ]
            for file in ids
        }
        for scale in key.method.scales
    }
    described = f"ratings of {len(complete)} listener{'s' * (len(complete) > 1)}, {key.method.standard}"
    metrics = tuple(
        MetricInfo(
            scale.name,
            scale.label,
            described=f"{scale.label}: {described}, from {scale.low} to {scale.high}",
            identity={"method": key.method.standard, "page": key.page},
        )
        for scale in key.method.scales
    )
    files = tuple(
        FileScores(file, {name: float(np.nanmean(values[file])) for name, values in ratings.items()}) for file in ids
    )
    audio = {
        stimulus.file: stimulus.path
        for stimulus in key.stimuli.values()
        if stimulus.system == row.name and stimulus.path
    }
    scores = Scores(metrics, files, sources={"scores": f"the page {key.page}"})
    return ScoredSystem(row.name, (scores,), (row.source,), (audio,), ratings, row.role == CONTROL)


def _ordered(systems: list[ScoredSystem], baseline: str | None) -> list[ScoredSystem]:
    if baseline is None:
        return systems
    names = [system.name for system in systems]
    if baseline not in names:
        note = did_you_mean(nearest(baseline, names))
        raise RunError(
            f"no system is called `{baseline}`{f': {note}' if note else ''}",
            remedy=f"choose the baseline from {', '.join(names)}",
        )
    return [systems[names.index(baseline)], *(system for system in systems if system.name != baseline)]
